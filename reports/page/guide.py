"""What a reader of the page must know, in Markdown, by section."""

HOW_TO_READ = """\
**Returns** are undiscounted sums over an evaluation episode, in the units of the family; more is
better. b is the number of environment steps that a method has used on the test task: b = 0 is
zero-shot, one or two episodes are few-shot, more are many-shot. A score is the mean over the tasks
of a level of shift, then over the levels of one shift axis; axes are never averaged together.

**Seeds** are the replications. Of the scores of one family, ± is half the width of the 95 %
interval of Student's t over seeds, or half the range where there are only two; one seed has none. A
difference has Welch's interval. What is computed over families has one of a stratified bootstrap,
corrected so that it covers about 95 % with few seeds too. Both need three seeds in every family.

**Curves** are flat while a method gathers experience before its first update (by default five
episodes for the TD3-type methods, none at smoke; 20 for MAML and CAVIA, 10 at quick, 2 at smoke;
PEARL's two episodes of exploration). An untrained policy may do worse than no action, and a gain
counts from there. So tables rank by the score at the end, and the area under a curve over log b
counts what is below the zero action as the zero action, wherever that was measured.

**Tables**: "frozen" means that the method stops learning before, "–" that a number is missing. Only
finished cells enter a score.

**Exact linear images**: where the tasks of a shift axis are linear images of training tasks, a
linear layer before the policy and one after it can undo the shift. Read those axes apart from the
others, since methods with such layers are at home there.

**Normalised scores** are per task (J − J₀) / (J_oracle − J₀), unclipped: 0 is the better of zero
and random action, 1 where TD3 ends that learns the task alone, in 20 000 steps on the point
families, 300 000 or more elsewhere. These references are fixed data; "–" where a task has none yet,
"?" where the two are hardly apart.
"""

CLAIMS = """\
What the two versions of the paper of APB claim, and what these results say to it. A claim is judged
on locomotion only, at desk and at paper; anything else is a toy, whichever way it points. A
comparison counts for or against a claim where p ≤ 0.05 after Holm's correction over all tests of
the claim at a budget.

"""

CLAIM_TESTS = """\
Each claim is tested by the statistic that it names. A p-value is corrected by Holm over all tests
of the claim at a budget: its pairs of methods, families, shift axes and statistics. A difference
has Welch's 95 % interval from three seeds on; of steps, the medians are shown instead. Where a
claim says "comes near" or "on par", it is supported if the first method is found equivalent to the
second or better, and not supported if it is found worse by more than the margin; without reference
returns there is no normalised score, and it stays undecided.

Detectable is the smallest difference that the strictest of the tests finds with a power of 80 %,
"none" where so few seeds can never show one; of equivalence it is the smallest margin within which
two methods that are alike would be found equivalent. "At b = 2H" is the difference of mean returns
after two episodes on the test task, where some methods stop learning; "steps used" says how much of
the task each has seen in the end.

"""

GAPS = """\
What a method loses outside the training distribution at the end of the adaptation budget: its score
on the split `id` less that on the split `ood`, paired by seed; a positive gap is a loss. Tasks
farther away may allow lower returns to anybody, which normalised scores take out.
([CSV](data/generalisation-gaps.csv))

"""

SEALED = """\
How much better each method solves the frozen test tasks, which everybody knows, than fresh ones
drawn at the same distances from the law after it was finished (`run --sealed SEED`): the return at
the end of adaptation, paired by seed. A difference whose interval lies above 0 suggests that the
method, or its settings, were fitted to the frozen tasks. Fresh tasks can also be easier or harder
by chance; several seeds, and methods that nobody fitted, tell how much.
([CSV](data/sealed-tasks.csv))

"""

LOSSES = (
    "##### Where the loss comes from\n\n"
    "Against context-td3, which is told the parameters of its task and reaches R in the end:"
    " zero-shot is R less the return before any step, ceiling is R less the return in the end, and"
    " speed is the return in the end less the mean height of the curve over log b. The smaller, the"
    " better.\n"
)

RADIUS = (
    "The largest distance up to which half of the gain that can be had is reached at the end,"
    " scaled by {}:"
)

BREAK_EVEN = (
    "##### When meta-training pays\n\n"
    "Steps on a test task until half of the expert's gain, medians over seeds, against those of"
    " td3, which learns each task alone: after so many test tasks the steps of meta-training are"
    " won back.\n"
)
