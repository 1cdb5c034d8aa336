"""Data sets of grasps that hold: build, check, convert, label."""
