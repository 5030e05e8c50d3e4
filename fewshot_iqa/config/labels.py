"""The classes of scenes and distortions: those of LIQE (Zhang et al., CVPR 2023)."""

SCENES = ("animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others")
DISTORTIONS = (
    "blur",
    "color",
    "contrast",
    "jpeg",
    "jpeg2000",
    "noise",
    "overexposure",
    "quantization",
    "underexposure",
    "spatial",
    "other",
)
CLASSES = {"scene": SCENES, "distortion": DISTORTIONS}
