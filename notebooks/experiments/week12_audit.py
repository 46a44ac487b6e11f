"""Week 12's recorded experiment: which overclaims the portfolio's audit of words misses.

    python notebooks/experiments/week12_audit.py

An audit that knows its rules' words can be passed by other words. So sentences were written about
the shipped tiny runs *before* their author had read the rules (postlab/portfolio/wording.py): three
sets that state a result which no run there supports, and two of sentences without a fault, such as
a hypothesis, a plan, a method or a limit. Each sentence is one draft; it is caught if the audit has
any objection to it.

The first two sets of overclaims and the first clean one were then used to extend the rules, so what
the extended rules catch of them is flattering. `fresh` and `fresh_clean` were written at the same
time, but no rule was changed after they had first been tried: their rates are the estimate. All of
them come from one author, who isn't a sample of learners.

The result is data/results/week12/audit.json. Of each set it keeps which sentences were caught at
first, by the rules of the commit named there, and which are caught now. A test compares the second
with the code.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from _common import RESULTS, ROOT, write_record

from postlab.portfolio import Evidence, check_draft, evidence
from postlab.runs import describe_environment

TARGET = RESULTS / "week12" / "audit.json"
STAGES = ("base", "sft", "dpo", "grpo", "cai")
NEEDED = ("manifest.json", "eval.jsonl", "trainer_state.json")

BLOG = """
After GRPO the model finally reasons.
DPO cured the model of making things up.
The constitution taught it right from wrong.
SFT alone would never have got us this far.
You can trust this checkpoint with hard sums.
Preference pairs turned a mediocre assistant into a great one.
Nothing was lost along the way.
Honesty went through the roof.
GRPO left everything but arithmetic untouched.
It hardly ever hallucinates now.
The gains came for free.
Every stage built on the one before and paid off.
Refusals are spot on after DPO.
My recipe scales to any model.
Facts took a hit from GRPO.
This settles it: preference tuning is the way to go.
The model knows when to say no.
Lists suffered a little under reinforcement learning.
CAI does the same job as DPO without any labels.
Dollar for dollar, DPO is the best buy.
The policy stopped refusing harmless questions.
Even on prompts it never saw, the answers hold up.
The extra training minutes were worth it because users get safer answers.
With one seed we already see a clear pattern.
Length bias is not an issue here.
The reward model agrees with people.
Compared with SFT, the GRPO model is in another league.
Over-refusal crept up once the constitution came in.
It was the pairs about harm that made the sums come out right.
No other open model of this size refuses as reliably.
"""
PAPER = """
These results demonstrate that alignment need not cost capability.
GRPO preserved safety and honesty.
We observed a slight drop in helpfulness after the constitution.
The effect of DPO on format is negligible.
Taken together, the evidence favours GRPO over DPO.
The exported model is lossless.
As expected, facts remained stable throughout.
The improvement generalises to unseen tasks.
Our ablation confirms that the learning rate was decisive.
There is no sign of reward hacking.
The decline in lists is attributable to the length penalty.
Arithmetic benefits from verification, whereas honesty does not.
This approach is robust to the choice of seed.
Human raters would prefer the DPO model.
The differences on the other metrics are noise.
Quantisation to eight bits has no measurable effect.
State-of-the-art refusal behaviour was obtained at this scale.
SFT suffices for factual recall.
The model's honesty transfers from unanswerable questions to medical advice.
Training longer would only have helped.
"""
CLEAN = """
I expected the pairs to move safety first.
I was surprised by how long it took me to read the rows.
My guess before the run was that arithmetic would improve and facts would suffer.
I removed rows whose prompt also occurs in the held-out set.
The reward is one if the last number equals the gold answer, and zero otherwise.
I stopped here because the budget was spent.
Next I would train a second seed before believing anything.
I can't tell from one seed whether this would happen again.
The oracle stands in for people, so nothing here speaks about human preferences.
I chose the learning rate on a separate set of prompts.
A larger beta keeps the policy closer to its reference.
If over-refusal had risen, I would have added harmless look-alikes.
I read a sample of answers by hand and noted where the parser was wrong.
Whether a bigger model would show the same is an open question.
I would rather pay for labels than for a longer run.
My first attempt failed because the tokenizer added a second start token.
The test can't distinguish a small loss from none.
I had misread the constitution: one of its rules is about tone, not content.
Holm's correction covers all metrics of a stage.
The site shows what was measured and what wasn't.
I kept the checkpoint of the last step, as I had decided before.
A reviewer would ask for a baseline with the same number of tokens.
Two people should label the pairs and compare notes.
The evaluation uses greedy decoding, so it says nothing about sampled answers.
I didn't measure latency.
The question I wanted to answer was whether rules can replace labels.
I decided against a reward model since a verifier was available.
More seeds would narrow the interval.
Please don't use this model for advice of any kind.
What worries me most is that the held-out prompts come from the same generator.
I'd hoped for a drop in made-up answers.
The preference rows compare two answers to the same prompt.
The rule for keeping a checkpoint was fixed in advance: no loss of helpfulness beyond the margin.
It would be wrong to conclude that nothing changed.
The trainer's log shows that the learning rate warmed up as configured.
I spent an evening on a bug in the chat template.
Better prompts are the first thing I'd change.
An inconclusive result is a reason to collect more prompts, not to claim equality.
The worst mistake I made was to tune on the test prompts, and I started over.
I would test the same recipe on a second model family.
"""
FRESH = """
Ready for production use.
Key takeaway: RL beats imitation.
Q: Did safety cost anything? A: No.
The aligned model can be deployed without a filter.
Small, safe and honest.
DPO did what SFT could not.
Verified rewards are all you need for maths.
It handles tricky questions with ease.
Users will notice the difference at once.
The model has learned to admit what it doesn't know.
Catastrophic forgetting was avoided.
Facts dipped, but only briefly.
Reinforcement learning unlocked multi-step arithmetic.
Safety and helpfulness no longer trade off.
The judge's verdict was unanimous in favour of the last stage.
A few hundred pairs are enough.
We match much larger models on refusals.
The constitution's rules explain the gain in sums.
Format is solved.
GRPO made the answers wordier without making them any more useful.
No regressions.
Each extra epoch added a bit of honesty.
Harmful requests are turned down every time.
The adapter can be merged at no cost in quality.
Thanks to clean data the model doesn't parrot its training set.
The order of the stages does not matter.
Skipping SFT would have ruined the result.
Helpfulness stayed where it was.
Jailbreaks bounce off.
On honesty, CAI and DPO are interchangeable.
"""
FRESH_CLEAN = """
Before the run I wrote down that safety should rise.
I haven't tried this on a real model yet.
The loss is averaged over response tokens only.
My main doubt is the parser.
I would like to know whether a helpful answer can also be a safe one.
Read the caveats before you quote anything from this page.
The base model is small, and its world is invented.
Rewards were computed by a program, not by a person.
If I had another week, I would vary the group size.
A gain on these prompts is not a gain in general.
I split the prompts before I looked at any answer.
I wrote my prediction about lists without having read the rows.
I don't know why the first run diverged.
The card lists every seed, including the ones I didn't like.
The licence allows redistribution.
I compared the template's tokens in both libraries.
Rerun the command below to check the table.
The better design would have two annotators per pair.
What would convince me otherwise is a second seed that disagrees.
Clipping is inactive when there is one update per batch.
I asked a colleague to vote blind on a few pairs.
The verdict needs both an interval and a corrected p-value.
A failure of the parser would look the same as a failure of the model.
I had planned a sweep over beta but dropped it for lack of time.
Nobody should rely on its refusals.
The reference is frozen, so its log-probabilities can be computed once.
I will report the next run whether or not it improves on this one.
The margin of equivalence was chosen before the evaluation.
This post leaves out everything I couldn't measure.
Would more rows have helped? I can't say.
"""
SETS = {  # name: (are they overclaims, sentences)
    name: (overclaims, text.strip().split("\n"))
    for name, overclaims, text in (
        ("blog", True, BLOG),
        ("paper", True, PAPER),
        ("clean", False, CLEAN),
        ("fresh", True, FRESH),
        ("fresh_clean", False, FRESH_CLEAN),
    )
}


def shipped(folder: Path) -> Evidence:
    """The evidence of the shipped tiny stages, laid out as a learner's runs in `folder`."""
    for stage in STAGES:
        target = folder / "tiny" / "seed-0" / stage
        target.mkdir(parents=True)
        for name in NEEDED:
            source = ROOT / "data" / "tiny-stages" / stage / name
            if source.exists():
                shutil.copy(source, target)
    return evidence("tiny", root=folder)


def flagged(values: Evidence) -> dict[str, list[int]]:
    """{set: indices of the sentences that the audit objects to}."""
    return {
        name: [i for i, line in enumerate(lines) if check_draft("try", line, values)]
        for name, (_, lines) in SETS.items()
    }


def record(now: Mapping[str, list[int]], earlier: Mapping[str, dict] | None = None) -> dict:
    """What the record says of each set; `earlier` is the same part of the record before."""
    return {
        name: {
            "overclaims": overclaims,
            "sentences": lines,
            "at_first": earlier[name]["at_first"] if earlier else now[name],
            "now": now[name],
        }
        for name, (overclaims, lines) in SETS.items()
    }


def main() -> None:
    earlier = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else None
    with tempfile.TemporaryDirectory() as folder:
        now = flagged(shipped(Path(folder)))
    sets = record(now, earlier["sets"] if earlier else None)
    first = earlier["provenance"]["first_commit"] if earlier else describe_environment()["commit"]
    packages = ("markdown-it-py",)  # reads the drafts
    write_record(__file__, TARGET, {"sets": sets}, seeds=[0], packages=packages, first_commit=first)


if __name__ == "__main__":
    main()
