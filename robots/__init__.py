"""Robot models, as data and the scripts that build them."""
