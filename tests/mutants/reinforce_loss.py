"""Wrong answers to `reinforce_loss`, as people write them."""


def no_minus(logps, rewards, mask):
    surplus = rewards - rewards.mean()
    return (surplus * (logps * mask).sum(dim=1)).mean()


def rewards_as_they_are(logps, rewards, mask):
    return -(rewards * (logps * mask).sum(dim=1)).mean()


def forgets_the_mask(logps, rewards, mask):
    surplus = rewards - rewards.mean()
    return -(surplus * logps.sum(dim=1)).mean()


def mean_log_prob(logps, rewards, mask):
    surplus = rewards - rewards.mean()
    return -(surplus * (logps * mask).sum(dim=1) / mask.sum(dim=1)).mean()


def adds_the_answers(logps, rewards, mask):
    surplus = rewards - rewards.mean()
    return -(surplus * (logps * mask).sum(dim=1)).sum()


def of_probabilities(logps, rewards, mask):
    surplus = rewards - rewards.mean()
    return -(surplus * (logps * mask).sum(dim=1).exp()).mean()


def standardised(logps, rewards, mask):
    surplus = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
    return -(surplus * (logps * mask).sum(dim=1)).mean()


def mean_by_mean(logps, rewards, mask):
    return -rewards.mean() * (logps * mask).sum(dim=1).mean()


def one_loss_an_answer(logps, rewards, mask):
    return -(rewards - rewards.mean()) * (logps * mask).sum(dim=1)


def a_number(logps, rewards, mask):
    surplus = rewards - rewards.mean()
    return -(surplus * (logps * mask).sum(dim=1)).mean().item()


def detached(logps, rewards, mask):
    surplus = rewards - rewards.mean()
    return -(surplus * (logps.detach() * mask).sum(dim=1)).mean()


def reward_of_the_first(logps, rewards, mask):
    return -((rewards - rewards[0]) * (logps * mask).sum(dim=1)).mean()


MUTANTS = {
    "no_minus": "sign",
    "rewards_as_they_are": "no_baseline",
    "forgets_the_mask": "mask_ignored",
    "mean_log_prob": "mean_of_tokens",
    "adds_the_answers": "summed",
    "of_probabilities": "probability",
    "standardised": "scaled",
    "mean_by_mean": "means_multiplied",
    "one_loss_an_answer": "not_averaged",
    "a_number": "wrong_type",
    "detached": "no_gradient",
    "reward_of_the_first": "differs",
}
