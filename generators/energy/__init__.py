"""Grasps by gradient descent on an energy: touch where the type touches, balance forces, don't penetrate."""
