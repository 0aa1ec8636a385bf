"""From a case to its report in varied wording, and to its key words."""

import hashlib

import numpy as np

from r2g.phantom.findings import KIND, Case, Finding

POOLS = ("data", "pretrain")
_SIZE_WORDS = {
    "small": ("small", "tiny", "trace"),
    "moderate": ("moderate", "medium sized"),
    "large": ("large", "big"),
}
_HEART = {
    "mild": ("The heart is mildly enlarged.", "Mild cardiomegaly.", "The cardiac silhouette is slightly enlarged.",
             "There is mild enlargement of the heart."),
    "marked": ("The heart is markedly enlarged.", "Marked cardiomegaly.", "There is severe cardiomegaly.",
               "The cardiac silhouette is greatly enlarged."),
}  # fmt: skip
_EDEMA = {
    "mild": (
        "Mild pulmonary edema.",
        "There is mild interstitial edema.",
        "Findings of slight pulmonary edema.",
    ),
    "severe": (
        "Severe pulmonary edema.",
        "There is marked pulmonary edema.",
        "Extensive pulmonary edema is seen.",
    ),
}
_SIDED = {
    "effusion": ("There is a {size} {side} pleural effusion.", "A {size} pleural effusion is seen on the {side}.",
                 "{Size} {side} effusion.", "{Size} amount of pleural fluid on the {side}."),
    "pneumothorax": ("There is a {size} {side} pneumothorax.", "{Size} {side} pneumothorax.",
                     "A {size} pneumothorax is present on the {side}."),
    "consolidation": ("There is consolidation in the {side} {zone} zone.", "{Side} {zone} zone consolidation.",
                      "Airspace consolidation is seen in the {zone} {side} lung.",
                      "Focal consolidation of the {side} {zone} lung."),
    "nodule": ("A nodule is seen in the {side} {zone} zone.", "{Side} {zone} lung nodule.",
               "There is a nodule in the {zone} {side} lung.", "Pulmonary nodule in the {side} {zone} zone."),
    "fracture": ("There is a {side} rib fracture.", "A rib fracture is seen on the {side}.",
                 "{Side} sided rib fracture.", "Fracture of a {side} rib."),
    "atelectasis": ("There is {side} basilar atelectasis.", "{Side} basal atelectasis.",
                    "Atelectasis is seen at the {side} base.", "Linear atelectasis at the {side} lung base."),
    "pacemaker": ("A {side} chest wall pacemaker is in place.", "{Side} sided pacemaker.",
                  "There is a pacemaker on the {side}."),
    "central_line": ("A {side} central venous line is present.", "{Side} sided central line.",
                     "There is a central line from the {side}."),
}  # fmt: skip
_PLAIN = {
    "emphysema": ("The lungs are hyperinflated with emphysema.", "There is emphysema.",
                  "Emphysematous changes are seen.", "Hyperinflated lungs in keeping with emphysema."),
    "wide_mediastinum": ("The mediastinum is widened.", "There is widening of the mediastinum.",
                         "Widened mediastinum."),
    "scoliosis": ("There is scoliosis of the spine.", "Thoracic scoliosis.", "The spine shows scoliosis."),
    "endotracheal_tube": ("An endotracheal tube is in place.", "The endotracheal tube ends above the carina.",
                          "There is an endotracheal tube."),
    "sternotomy": ("Sternotomy wires are seen.", "Median sternotomy wires are in place.",
                   "There are wires from a prior sternotomy."),
}  # fmt: skip
_ABSENT = {
    "cardiomegaly": ("The heart is normal in size.", "Heart size is normal.", "No cardiomegaly."),
    "effusion": ("No pleural effusion.", "There is no effusion.", "The pleural spaces are free of effusion."),
    "pneumothorax": ("No pneumothorax.", "There is no pneumothorax.", "No pneumothorax is seen."),
    "consolidation": ("No focal consolidation.", "There is no consolidation.", "The lungs are without consolidation."),
    "edema": ("No pulmonary edema.", "There is no edema.", "No evidence of edema."),
    "fracture": ("No rib fracture.", "The ribs are intact.", "No acute fracture."),
    "wide_mediastinum": ("The mediastinum is normal.", "The mediastinal contour is normal."),
}  # fmt: skip
_ABSENT_TOGETHER = (
    (("effusion", "pneumothorax"), ("No effusion or pneumothorax.", "There is no pneumothorax or pleural effusion.")),
    (("consolidation", "effusion"), ("No consolidation or effusion.", "No focal consolidation or pleural effusion.")),
    (("consolidation", "effusion", "pneumothorax"), ("No focal consolidation, effusion, or pneumothorax.",
                                                     "No pneumothorax, consolidation, or effusion.")),
)  # fmt: skip
_NORMAL = ("No acute abnormality.", "Normal chest film.", "The lungs are clear.", "Clear lungs.")
_TRAPS = {
    "dextrocardia": ("The heart lies on the right, in keeping with dextrocardia.", "Dextrocardia."),
    "mirrored": ("The film is hung reversed, as its marker shows.", "Note the reversed film by its marker."),
}


def report(case: Case, rng: np.random.Generator, pool: str) -> str:
    """A report that says all that the case shows and a few things that it doesn't.

    `pool` is data or pretrain: a text belongs to exactly one, by its hash, so that no report that an llm was
    pretrained on can be met in train, val or test. Raises ValueError for another pool.
    """
    wanted = POOLS.index(pool)
    for _ in range(200):
        text = _compose(case, rng)
        if hashlib.sha1(text.encode()).digest()[0] % 2 == wanted:
            return text
    raise RuntimeError(f"no wording of {case} falls into the pool {pool}")


def keywords(case: Case, rng: np.random.Generator) -> str:
    """The findings as codes such as `effusion_left_large`, in random order; `none` for a normal case."""
    codes = [finding.code for finding in case.findings]
    return " ".join(codes[i] for i in rng.permutation(len(codes))) or "none"


def _compose(case: Case, rng: np.random.Generator) -> str:
    present = [_positive(finding, rng) for finding in case.findings]
    traps = [_pick(_TRAPS[name], rng) for name in _TRAPS if getattr(case, name)]
    absent = _negatives(case, rng, least=3 if len(present) < 2 else 1)
    if rng.random() < 0.7:
        sentences = _shuffled(present, rng) + _shuffled(absent, rng)
    else:
        sentences = _shuffled(present + absent, rng)
    opening = [_pick(_NORMAL, rng)] if not present else []
    return " ".join([*traps, *opening, *sentences])


def _positive(finding: Finding, rng: np.random.Generator) -> str:
    if finding.name == "cardiomegaly":
        return _pick(_HEART[finding.size], rng)
    if finding.name == "edema":
        return _pick(_EDEMA[finding.size], rng)
    if finding.name in _PLAIN:
        return _pick(_PLAIN[finding.name], rng)
    size = _pick(_SIZE_WORDS[finding.size], rng) if finding.size else ""
    words = {"side": finding.side, "zone": finding.zone, "size": size}
    words |= {key.capitalize(): word.capitalize() for key, word in words.items()}
    return _pick(_SIDED[finding.name], rng).format(**words)


def _negatives(case: Case, rng: np.random.Generator, least: int) -> list[str]:
    free = [name for name in _ABSENT if not case.has(name)]
    count = min(len(free), least + int(rng.integers(0, 3)))
    chosen = {free[i] for i in rng.choice(len(free), count, replace=False)}
    sentences = []
    for i in rng.permutation(len(_ABSENT_TOGETHER)):
        names, wordings = _ABSENT_TOGETHER[i]
        if chosen.issuperset(names) and rng.random() < 0.6:
            sentences.append(_pick(wordings, rng))
            chosen -= set(names)
    return sentences + [_pick(_ABSENT[name], rng) for name in sorted(chosen)]


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _shuffled(items: list[str], rng: np.random.Generator) -> list[str]:
    return [items[i] for i in rng.permutation(len(items))]


KINDS_WITH_WORDS = frozenset(_SIDED) | frozenset(_PLAIN) | {"cardiomegaly", "edema"}
if frozenset(KIND) != KINDS_WITH_WORDS:
    raise ValueError(f"kinds without words or words without kinds: {KINDS_WITH_WORDS ^ frozenset(KIND)}")
