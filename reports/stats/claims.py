"""The claims of the APB papers, as data, and when a claim is judged.

A claim is judged where it was made: on locomotion, at the budgets meant for that. Results
elsewhere are only a hint, called toy evidence.
"""

from dataclasses import dataclass

JUDGED_AT = ("desk", "paper")  # budgets at which a claim is judged, each by itself
# locomotion families
FAMILIES = frozenset(
    {"cheetah-vel", "cheetah-joints", "hopper-rand", "walker-rand", "ant-goal", "ant-dir"}
)
LEVEL = 0.05  # for p-values corrected over all tests of a claim at a budget
# in normalised scores: a tenth of the way from doing nothing to the expert counts as no difference
MARGIN = 0.1

SUPPORTED = "supported"
CONTRADICTED = "not supported"
UNDECIDED = "undecided"
TOY = "toy evidence only"
RETURN = "last return"
NORMALISED = "last normalised score"
AREA = "area under the curve"
STEPS = "steps to half"  # of the expert's gain
# on neighbouring tasks, without learning there
KEPT = "neighbours − own task"
EQUAL = "neighbours at equal return on own task"


@dataclass(frozen=True)
class Claim:
    """A claim that each arm beats all `others` by every statistic, or matches them by NORMALISED.

    Arms are named as reports name them: a method, or one with settings such as "apb (tasks=5)".
    """

    text: str
    paper: str  # the version of the paper that makes the claim
    suite: str
    arms: tuple[str, ...]
    others: tuple[str, ...]
    statistics: tuple[str, ...] = (RETURN,)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs (arm, other) that are compared."""
        return [(arm, other) for arm in self.arms for other in self.others]


V1 = "arXiv v1"
FINAL = "ICML 2026"
META_RL = ("maml", "cavia", "pearl", "varibad", "maml+ft", "cavia+ft", "pearl+ft", "varibad+ft")
CLAIMS = (
    Claim(
        "APB adapts outside the training distribution where other meta-RL fails",
        V1,
        "ood",
        arms=("apb",),
        others=META_RL,
    ),
    Claim(
        "APB needs fewer samples than standard RL",
        V1,
        "ood",
        arms=("apb",),
        others=("td3",),
        statistics=(AREA, STEPS),
    ),
    Claim(
        "a random backbone comes near a meta-trained one",
        V1,
        "sanity",
        arms=("apb-random",),
        others=("apb",),
        statistics=(NORMALISED,),
    ),
    Claim(
        "a layer before and one after the backbone are both needed",
        V1,
        "placement",
        arms=("apb",),
        others=("apb-pre", "apb-post"),
    ),
    *(
        Claim(
            f"the error falls with the number of training tasks, {steps} fixed",
            V1,
            "coverage",
            arms=(f"apb (tasks=30{same})",),
            others=(f"apb (tasks=5{same})", f"apb (tasks=15{same})"),
        )
        for steps, same in (("the steps of each", ""), ("all steps together", " steps=same"))
    ),
    Claim(
        "linear layers alone are on par with standard RL, even around a random backbone",
        FINAL,
        "sanity",
        arms=("apb", "apb-random"),
        others=("td3",),
        statistics=(NORMALISED,),
    ),
    Claim(
        "learning linear layers alone helps the adapted policy generalise",
        FINAL,
        "generalisation",
        arms=("apb", "apb-random"),
        others=("td3", "apb-unfrozen"),
        statistics=(KEPT, EQUAL),
    ),
)
NOT_TESTED = {
    "the bound 2L·‖h‖·|X_OOD|·ε_max holds": V1,
}


def judgement(family: str, budget: str, p: float, favours: bool) -> str:
    """SUPPORTED, CONTRADICTED or UNDECIDED for a test where claims are judged, TOY anywhere else.

    Args:
      p: corrected p-value, NaN where there is no test.
      favours: whether the result speaks for the claim.
    """
    if budget not in JUDGED_AT or family not in FAMILIES:
        return TOY
    if not p <= LEVEL:
        return UNDECIDED
    return SUPPORTED if favours else CONTRADICTED
