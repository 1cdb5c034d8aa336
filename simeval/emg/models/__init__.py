"""Classifiers of trials behind one small interface: `base.Classifier`."""
