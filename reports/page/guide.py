"""Explanations for readers of the page, in Markdown, by section."""

HOW_TO_READ = """\
**Returns** are undiscounted sums over an evaluation episode, in the units of the family; higher is
better. b is the number of environment steps that a method has used on the test task: b = 0 is
zero-shot, one or two episodes are few-shot, more are many-shot. A score is the mean over the tasks
at a level of shift, then over the levels of one shift axis; axes are never averaged together.

**Seeds** are the replications. For the scores of one family, ± is half the width of the 95 %
interval over seeds (Student's t), or half the range where there are only two; a single seed has
none. A difference has Welch's interval. What is computed over several families has a stratified
bootstrap interval, corrected so that it covers about 95 % with few seeds too. The last two need
three seeds in every family.

**Curves** are flat while a method gathers experience before its first update (by default five
episodes for the TD3-type methods, none at smoke; 20 for MAML and CAVIA, 10 at quick, 2 at smoke;
PEARL's two episodes of exploration). An untrained policy may do worse than no action, and gains are
measured from there. Tables therefore rank by the score at the end, and the area under a curve over
log b counts anything below the zero action as the zero action, wherever that was measured.

**Tables**: "frozen" means that the method stopped learning earlier, "–" that a number is missing.
Only finished cells enter a score.

**Exact linear images**: where the tasks of a shift axis are linear images of training tasks, a
linear layer before the policy and one after it can undo the shift. Read those axes separately: they
favour methods with such layers.

**Normalised scores** are (J − J₀) / (J_oracle − J₀) per task, unclipped: 0 is the better of zero
and random actions, 1 is the final return of TD3 trained on the task alone, with 20 000 steps on the
point families and 300 000 or more elsewhere. These references are fixed data; "–" means that a task
has none yet, "?" that the two are barely apart.
"""

CLAIMS = """\
What the two versions of the APB paper claim, and what these results say about it. A claim is judged
only on locomotion, at desk and at paper; anything else is toy evidence, whichever way it points. A
comparison counts for or against a claim where p ≤ 0.05 after Holm's correction over all tests of
the claim at a budget.

"""

CLAIM_TESTS = """\
Each claim is tested by the statistic it names. p-values are Holm-corrected over all tests of the
claim at a budget: its pairs of methods, families, shift axes and statistics. A difference has
Welch's 95 % interval if there are at least three seeds; for steps, the medians are shown instead. A
claim that says "comes near" or "on par" is supported if the first method is found equivalent to the
second or better, and not supported if it is found worse by more than the margin; without reference
returns there is no normalised score, and the claim stays undecided.

"Detectable" is the smallest difference that the strictest of the tests finds with a power of 80 %,
or "none" where so few seeds can never show one; for equivalence it is the smallest margin within
which two identical methods would be found equivalent. "At b = 2H" is the difference of mean returns
after two episodes on the test task, where some methods stop learning; "steps used" is how many
steps on the task each method has used in the end.

"""

GAPS = """\
What a method loses outside the training distribution at the end of the adaptation budget: its score
on the split `id` minus that on the split `ood`, paired by seed; a positive gap is a loss. More
distant tasks may allow lower returns for any method, which normalised scores account for.
([CSV](data/generalisation-gaps.csv))

"""

SEALED = """\
How much better each method solves the frozen test tasks, which everybody knows, than fresh ones
drawn at the same distances from the law after it was finished (`run --sealed SEED`): the return at
the end of adaptation, paired by seed. A difference whose interval lies above 0 suggests that the
method, or its settings, were fitted to the frozen tasks. Fresh tasks can also be easier or harder
by chance; several seeds, and methods that nobody has tuned, show by how much.
([CSV](data/sealed-tasks.csv))

"""

LOSSES = (
    "##### Where the loss comes from\n\n"
    "Compared with context-td3, which is given the parameters of its task and ends at a return R:"
    " zero-shot is R minus the return before any step, ceiling is R minus the return at the end,"
    " and speed is the return at the end minus the mean height of the curve over log b. Lower is"
    " better.\n"
)

RADIUS = (
    "The largest distance up to which a method reaches half of the attainable gain by the end,"
    " scaled by {}:"
)

BREAK_EVEN = (
    "##### When meta-training pays\n\n"
    "Steps on a test task until half of the expert's gain, medians over seeds, compared with td3,"
    " which learns each task alone. The last column is the number of test tasks after which the"
    " steps spent on meta-training are recovered.\n"
)
