"""A learned predictor of whether a grasp holds."""
