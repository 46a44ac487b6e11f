"""Wrong answers to `dpo_loss`, as people write them."""

import torch
import torch.nn.functional as F


def chosen_and_rejected_swapped(
    *, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1
):
    margin = (policy_rejected - ref_rejected) - (policy_chosen - ref_chosen)
    return -F.logsigmoid(beta * margin)


def no_reference(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    return -F.logsigmoid(beta * (policy_chosen - policy_rejected))


def adds_the_reference(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    policy_margin = policy_chosen - policy_rejected
    ref_margin = ref_chosen - ref_rejected
    return -F.logsigmoid(beta * (policy_margin + ref_margin))


def adds_the_rejected(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    chosen = policy_chosen - ref_chosen
    rejected = policy_rejected - ref_rejected
    return -F.logsigmoid(beta * (chosen + rejected))


def beta_is_missing(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    logits = (policy_chosen - policy_rejected) - (ref_chosen - ref_rejected)
    return -F.logsigmoid(logits)


def beta_in_front(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    logits = (policy_chosen - policy_rejected) - (ref_chosen - ref_rejected)
    return -beta * F.logsigmoid(logits)


def divides_by_beta(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    logits = (policy_chosen - policy_rejected) - (ref_chosen - ref_rejected)
    return -F.logsigmoid(logits / beta)


def no_minus(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    logits = (policy_chosen - policy_rejected) - (ref_chosen - ref_rejected)
    return torch.log(torch.sigmoid(beta * logits))


def no_log(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    logits = (policy_chosen - policy_rejected) - (ref_chosen - ref_rejected)
    return -torch.sigmoid(beta * logits)


def takes_the_mean(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    chosen = beta * (policy_chosen - ref_chosen)
    rejected = beta * (policy_rejected - ref_rejected)
    return -F.logsigmoid(chosen - rejected).mean()


def a_sigmoid_each(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    chosen = beta * (policy_chosen - ref_chosen)
    rejected = beta * (policy_rejected - ref_rejected)
    return -(F.logsigmoid(chosen) - F.logsigmoid(rejected))


def log_of_sigmoid(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    chosen = beta * (policy_chosen - ref_chosen)
    rejected = beta * (policy_rejected - ref_rejected)
    return -torch.sigmoid(chosen - rejected).log()


def detaches_the_rejected(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    chosen = policy_chosen - ref_chosen
    rejected = policy_rejected.detach() - ref_rejected
    return -F.logsigmoid(beta * (chosen - rejected))


def under_no_grad(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    with torch.no_grad():
        chosen = policy_chosen - ref_chosen
        rejected = policy_rejected - ref_rejected
    return -F.logsigmoid(beta * (chosen - rejected))


def short_names(*, pc, pr, rc, rr, beta=0.1):
    return -F.logsigmoid(beta * ((pc - rc) - (pr - rr)))


def beta_twice(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    chosen = beta * (policy_chosen - ref_chosen)
    rejected = beta * (policy_rejected - ref_rejected)
    return -F.logsigmoid(beta * (chosen - rejected))


def ratios_of_logs(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    chosen = beta * torch.log(policy_chosen / ref_chosen)
    rejected = beta * torch.log(policy_rejected / ref_rejected)
    return -F.logsigmoid(chosen - rejected)


def beta_for_the_policy_only(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    return -F.logsigmoid(beta * (policy_chosen - policy_rejected) - (ref_chosen - ref_rejected))


def ipo(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    margin = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)
    return (margin - 1 / (2 * beta)) ** 2


def forgets_to_return(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    loss = -F.logsigmoid(beta * (policy_chosen - ref_chosen - policy_rejected + ref_rejected))
    print(loss.mean())


MUTANTS = {
    "chosen_and_rejected_swapped": "swapped",
    "no_reference": "ref_forgotten",
    "adds_the_reference": "ref_added",
    "adds_the_rejected": "rejected_added",
    "beta_is_missing": "beta_forgotten",
    "beta_in_front": "beta_outside",
    "divides_by_beta": "beta_divides",
    "no_minus": "sign",
    "no_log": "probability",
    "takes_the_mean": "reduced",
    "a_sigmoid_each": "each_alone",
    "log_of_sigmoid": "overflow",
    "detaches_the_rejected": "no_gradient_to_policy_rejected",
    "under_no_grad": "no_gradient",
    "short_names": "signature",
    "beta_twice": "beta_twice",
    "ratios_of_logs": "ratio_of_logs",
    "beta_for_the_policy_only": "brackets",
    "ipo": "another_loss",
    "forgets_to_return": "returns_none",
}
