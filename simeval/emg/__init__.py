"""From two channels of surface EMG to a posterior over the six grasp types: recordings, features, models, protocols."""
