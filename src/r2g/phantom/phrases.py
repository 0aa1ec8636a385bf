"""The wordings that reports are put together from; data, no logic.

`{side}` `{zone}` `{size}` are the finding's details. Each positive sentence names exactly one finding, or a pair on
both sides.
"""

SIZE_WORDS = {
    "small": ("small", "small", "tiny", "minor"),
    "moderate": ("moderate", "moderate", "moderate-sized", "medium-sized"),
    "large": ("large", "large", "sizeable", "extensive"),
    "mild": ("mild", "mild", "slight"),
    "marked": ("marked", "marked", "severe", "gross"),
    "severe": ("severe", "marked", "extensive"),
}
ZONE_WORDS = {
    "upper": ("upper zone", "upper lung zone", "upper lobe", "upper lung field"),
    "mid": ("mid zone", "mid lung zone", "middle zone", "mid lung field"),
    "lower": ("lower zone", "lower lung zone", "lower lobe", "base"),
}

POSITIVE: dict[str, tuple[str, ...]] = {
    "cardiomegaly": (
        "There is {size} cardiomegaly.",
        "The heart shows {size} enlargement.",
        "{size} enlargement of the cardiac silhouette is seen.",
        "The cardiac silhouette is enlarged, to a {size} degree.",
        "The heart is enlarged.",
        "{size} cardiomegaly is present.",
        "Heart size is increased, with {size} cardiomegaly.",
        "Cardiomegaly is noted, {size} in degree.",
    ),
    "effusion": (
        "There is a {size} {side} pleural effusion.",
        "A {size} {side} pleural effusion is present.",
        "{size} {side} pleural effusion.",
        "{size} effusion on the {side}.",
        "{size} amount of pleural fluid is seen on the {side}.",
        "There is a {size} {side}-sided effusion.",
        "A {size} effusion layers at the {side} base.",
        "On the {side}, there is a {size} pleural effusion.",
        "The {side} costophrenic angle is blunted by a {size} effusion.",
    ),
    "pneumothorax": (
        "There is a {size} {side} pneumothorax.",
        "A {size} {side} pneumothorax is present.",
        "{size} {side}-sided pneumothorax.",
        "A {size} pneumothorax is seen on the {side}.",
        "{size} pneumothorax on the {side} with a visible pleural line.",
        "On the {side}, a {size} pneumothorax is seen.",
        "The {side} lung is partly collapsed by a {size} pneumothorax.",
    ),
    "consolidation": (
        "There is consolidation in the {side} {zone}.",
        "Consolidation is seen in the {side} {zone}.",
        "Airspace opacity in the {side} {zone} is compatible with consolidation.",
        "A patchy airspace opacity projects over the {side} {zone}.",
        "{side} {zone} consolidation.",
        "Focal opacity in the {side} {zone}, suspicious for pneumonia.",
        "The {side} {zone} shows a confluent consolidation.",
        "An infiltrate is present in the {side} {zone}.",
    ),
    "edema": (
        "There is {size} pulmonary edema.",
        "{size} interstitial edema is present.",
        "Perihilar haze in keeping with {size} pulmonary edema.",
        "Findings are consistent with {size} pulmonary edema.",
        "The lungs show {size} edema in a perihilar distribution.",
        "Pulmonary vascular congestion with {size} edema.",
    ),
    "nodule": (
        "There is a nodule in the {side} {zone}.",
        "A rounded nodule projects over the {side} {zone}.",
        "{side} {zone} pulmonary nodule.",
        "A well-defined nodular opacity is seen in the {side} {zone}.",
        "The {side} {zone} contains a solitary nodule.",
        "Solitary pulmonary nodule in the {side} {zone}.",
        "A nodule is noted in the {side} {zone}.",
    ),
    "fracture": (
        "There is a {side} rib fracture.",
        "A displaced {side} rib fracture is seen.",
        "Fracture of a {side} lateral rib.",
        "{side} rib fracture with a step in the cortex.",
        "A rib on the {side} is fractured.",
        "On the {side}, a displaced rib fracture is noted.",
    ),
    "atelectasis": (
        "There is {side} basilar atelectasis.",
        "Linear atelectasis at the {side} base.",
        "Plate-like atelectasis is seen at the {side} lung base.",
        "Band-like opacities at the {side} base are compatible with atelectasis.",
        "{side} basal subsegmental atelectasis.",
        "{side} lower lung volume loss with linear atelectasis.",
        "Streaky atelectasis is present in the {side} lower lung.",
    ),
    "emphysema": (
        "The lungs are hyperinflated with flattened diaphragms.",
        "Hyperinflation is present, in keeping with emphysema.",
        "The lungs are hyperexpanded.",
        "There is emphysema.",
        "Emphysematous changes with flattening of the diaphragms.",
        "The chest is hyperinflated, suggesting obstructive lung disease.",
    ),
    "wide_mediastinum": (
        "The mediastinum is widened.",
        "There is widening of the upper mediastinum.",
        "Mediastinal widening is seen.",
        "The superior mediastinum appears widened.",
        "A widened mediastinum is noted.",
    ),
    "scoliosis": (
        "There is scoliosis of the thoracic spine.",
        "The thoracic spine is scoliotic.",
        "Thoracic scoliosis is noted.",
        "Scoliosis is present.",
        "There is a curvature of the spine, in keeping with scoliosis.",
    ),
    "pacemaker": (
        "A {side}-sided pacemaker is in place.",
        "There is a {side} chest wall pacemaker with its lead in the heart.",
        "A pacemaker generator projects over the {side} chest wall.",
        "Pacemaker on the {side} with an intact lead.",
        "{side} pectoral pacemaker is noted.",
    ),
    "endotracheal_tube": (
        "An endotracheal tube ends above the carina.",
        "The endotracheal tube tip is above the carina.",
        "Endotracheal tube in satisfactory position.",
        "The patient is intubated.",
        "An endotracheal tube is in place.",
    ),
    "central_line": (
        "A {side} central venous catheter ends in the superior vena cava.",
        "The tip of a {side} internal jugular line is in the superior vena cava.",
        "{side} central line is in place.",
        "There is a {side}-sided central venous line.",
        "A central venous catheter has been placed from the {side}.",
    ),
    "sternotomy": (
        "Median sternotomy wires are intact.",
        "Sternotomy wires are seen.",
        "The patient has had a sternotomy.",
        "Sternal wires are noted in the midline.",
        "There are intact median sternotomy wires.",
    ),
}

BOTH_SIDES: dict[str, tuple[str, ...]] = {
    "effusion": (
        "There are bilateral pleural effusions, {left} on the left and {right} on the right.",
        "Bilateral pleural effusions are present.",
        "Bilateral effusions, {right} on the right and {left} on the left.",
    ),
    "pneumothorax": ("There are bilateral pneumothoraces.", "Pneumothoraces are seen on both sides."),
    "consolidation": ("There is bilateral consolidation.", "Airspace opacities are present in both lungs."),
    "nodule": ("There are bilateral pulmonary nodules.", "Nodules are seen in both lungs."),
    "fracture": ("There are bilateral rib fractures.", "Rib fractures are seen on both sides."),
    "atelectasis": ("There is bibasilar atelectasis.", "Linear atelectasis is present at both bases."),
}

ABSENT_NOUNS: dict[str, tuple[str, ...]] = {
    "effusion": ("pleural effusion", "effusion", "pleural fluid"),
    "pneumothorax": ("pneumothorax",),
    "consolidation": ("focal consolidation", "consolidation", "airspace opacity"),
    "edema": ("pulmonary edema", "edema", "vascular congestion"),
    "nodule": ("pulmonary nodule", "suspicious nodule", "nodule or mass"),
    "fracture": ("rib fracture", "displaced fracture", "acute fracture"),
    "atelectasis": ("atelectasis", "volume loss"),
    "cardiomegaly": ("cardiomegaly", "cardiac enlargement"),
    "wide_mediastinum": ("mediastinal widening",),
}
ABSENT_ONE = (
    "No {a}.",
    "There is no {a}.",
    "No {a} is seen.",
    "The study is negative for {a}.",
    "No evidence of {a}.",
)
ABSENT_TWO = (
    "No {a} or {b}.",
    "There is no {a} or {b}.",
    "No {a} and no {b}.",
    "There is neither {a} nor {b}.",
    "The lungs are without {a} or {b}.",
)
ABSENT_THREE = ("No {a}, {b} or {c}.", "There is no {a}, {b}, or {c}.", "No evidence of {a}, {b} or {c}.")
ABSENT_SIDED = (
    "No {side} {noun}.",
    "There is no {side}-sided {noun}.",
    "No {noun} on the {side}.",
    "No {noun} is seen on the {side}.",
)
SIDED_NOUNS = {
    "effusion": ("effusion", "pleural effusion"),
    "pneumothorax": ("pneumothorax",),
    "consolidation": ("consolidation",),
    "fracture": ("rib fracture",),
}

NORMAL: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("cardiomegaly",),
        (
            "The heart size is normal.",
            "The heart is normal in size.",
            "The heart is not enlarged.",
            "Cardiac silhouette is within normal limits.",
            "Heart size is within normal limits.",
            "The cardiac silhouette is unremarkable.",
        ),
    ),
    (
        ("wide_mediastinum",),
        (
            "The mediastinal contours are unremarkable.",
            "The mediastinum is normal in width.",
            "Mediastinal contours are normal.",
            "The mediastinum is not widened.",
        ),
    ),
    (
        ("consolidation", "edema", "nodule", "atelectasis", "emphysema", "pneumothorax", "effusion"),
        (
            "The lungs are clear.",
            "Both lungs are clear and well expanded.",
            "Lungs are well aerated and clear.",
            "The lungs are free of focal disease.",
        ),
    ),
    (
        ("fracture", "scoliosis"),
        (
            "The bones are unremarkable.",
            "Osseous structures are intact.",
            "The visualized bony structures are normal.",
            "No acute osseous abnormality.",
        ),
    ),
    (
        ("effusion", "pneumothorax"),
        ("The pleural spaces are clear.", "The costophrenic angles are sharp.", "Pleural spaces are unremarkable."),
    ),
    (
        ("pacemaker", "endotracheal_tube", "central_line", "sternotomy"),
        ("No support devices are seen.", "There are no lines or tubes.", "No medical devices."),
    ),
    (("edema",), ("The pulmonary vasculature is normal.", "Pulmonary vessels are unremarkable.")),
    (
        (),
        (
            "The upper abdomen is unremarkable.",
            "The hila are normal.",
            "The trachea is midline.",
            "Soft tissues are unremarkable.",
            "The hilar contours are within normal limits.",
        ),
    ),
)
"""Sentences that hold when none of the kinds named before them is present."""

DEXTROCARDIA = ("The heart lies on the right.", "The cardiac apex points to the right.")
"""Sentences that name a side without naming a finding."""
