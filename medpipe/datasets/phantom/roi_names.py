"""The names that clinics give to their regions of interest: another habit for each phantom."""

from collections.abc import Sequence

import numpy as np

# One column a habit: English, German, TG-263, capitals, short. The manifests' aliases hold all of them.
NAMES = {
    "ctv_high_risk": ("HR-CTV", "CTV_HR", "CTV_High", "HRCTV", "CTV-T_HR"),
    "bladder": ("Bladder", "Blase", "Bladder", "BLADDER", "Bl"),
    "rectum": ("Rectum", "Rektum", "Rectum", "RECTUM", "Rect"),
    "sigmoid_colon": ("Sigmoid", "Sigma", "Colon_Sigmoid", "SIGMOID", "Sig"),
    "uterus": ("Uterus", "Uterus", "Uterus", "UTERUS", "Ut"),
    "sacrum": ("Sacrum", "Sacrum", "Sacrum", "SACRUM", "Sacrum"),
    "hip_left": ("hip_left", "hip_left", "Pelvic_Bone_L", "HIP_LEFT", "hip_left"),
    "hip_right": ("hip_right", "hip_right", "Pelvic_Bone_R", "HIP_RIGHT", "hip_right"),
    "femur_left": ("Femur_L", "Femur_L", "Femur_L", "FEMUR_L", "Femur_L"),
    "femur_right": ("Femur_R", "Femur_R", "Femur_R", "FEMUR_R", "Femur_R"),
}


def roi_names(seed: int, structures: Sequence[str]) -> dict[str, str]:
    """Structure -> ROI name of one phantom, by its seed."""
    habit = int(np.random.default_rng([seed, 1_000]).integers(len(NAMES["bladder"])))
    return {name: NAMES[name][habit] for name in structures}
