"""simeval: does a generated ShadowHand grasp hold?"""

__version__ = "0.1.0"
