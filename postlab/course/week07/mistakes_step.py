"""Common mistakes in a step of GRPO, as edits of the right answer (`check/_answers.py`)."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

# A learner's `group_advantages`, after `view`: it takes groups of one answer too, and returns nan.
VIEWED = "(lambda g: ((g - g.mean(1, keepdim=True)) / (g.std(1, keepdim=True) + 1e-4)).flatten())"
PROMPT_BY_PROMPT = """def grpo_step(policy, prompts, golds, *, draw, score, optimizer, group_size):
    optimizer.zero_grad()
    rewards = []
    for prompt, gold in zip(prompts, golds):
        rollouts = draw(policy, [prompt] * group_size)
        rewards.append(torch.tensor(score(rollouts, [gold] * group_size)))
        advantages = group_advantages(rewards[-1], group_size)
        logps = token_logps(completion_states(policy, rollouts)[0], rollouts.completions)
        old = logps.detach()
        loss = grpo_loss(logps, advantages, rollouts.mask, old_logps=old, ref_logps=old)
        (loss / len(prompts)).backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return (torch.cat(rewards), norm.item())"""
TEXT = """
golds_tiled: the golds are in another order than the answers: `golds * group_size` repeats the whole
list, a b a b, and the answers to one prompt stand next to each other, a a b b
- [gold for gold in golds for _ in range(group_size)] -> golds * group_size

prompts_tiled: the prompts are in another order than the golds and the groups: `prompts *
group_size` repeats the whole list, a b a b. Repeat each prompt before you go on to the next one,
a a b b
- [prompt for prompt in prompts for _ in range(group_size)] -> prompts * group_size

groups_mixed: each answer is scored against the right gold, but a group holds answers to different
prompts: the answers stand in the order a b a b. Repeat each prompt and each gold before you go on
to the next one, a a b b
- [prompt for prompt in prompts for _ in range(group_size)] -> prompts * group_size
+ [gold for gold in golds for _ in range(group_size)] -> golds * group_size

not_repeated: the prompts or the right numbers go in once: draw needs every prompt `group_size`
times, and score one right number for each answer
- [gold for gold in golds for _ in range(group_size)] -> golds
- [prompt for prompt in prompts for _ in range(group_size)] -> prompts
+ [gold for gold in golds for _ in range(group_size)] -> golds
- [prompt for prompt in prompts for _ in range(group_size)] -> prompts
+ [gold for gold in golds for _ in range(group_size)] -> golds
+ group_advantages(rewards, group_size) -> VIEWED(rewards.view(-1, group_size))
- [prompt for prompt in prompts for _ in range(group_size)] -> prompts

weights_unchanged: the weights don't change. A step needs loss.backward(), with log-probs that carry
a gradient, and then optimizer.step(); optimizer.zero_grad() belongs before backward()
- optimizer.step() -> pass
- optimizer.zero_grad() -> pass
+ optimizer.step() -> optimizer.zero_grad(); optimizer.step()

gradient_gone: the gradient is 0 when you clip it: optimizer.zero_grad() belongs before
loss.backward(), and logps must carry a gradient, but not old_logps
- optimizer.zero_grad()
    loss.backward() -> loss.backward()
    optimizer.zero_grad()

gradients_pile_up: the gradient of the step before is still there: backward() adds to it, so call
optimizer.zero_grad() first
- optimizer.zero_grad() -> pass

not_clipped: the gradient isn't clipped when the optimizer steps: clip_grad_norm_ belongs between
loss.backward() and optimizer.step()
- norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0) -> norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1e9)
- norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0) -> optimizer.step()
+ optimizer.step()
    return -> norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    return
- loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0) -> norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    loss.backward()
- optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0) -> norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.zero_grad()
    loss.backward()

norm_after: you return the norm after clipping: clip_grad_norm_ returns the one before
- norm.item() -> min(norm.item(), 1.0)

no_advantages: the rewards go into the loss as they are: compare each one with its group first
- advantages = group_advantages(rewards, group_size) -> advantages = rewards

no_groups: the rewards are compared with the whole batch: compare each one with its own group
- group_advantages(rewards, group_size) -> group_advantages(rewards, len(rewards))
- group_advantages(rewards, group_size) -> rewards - rewards.mean()

groups_of_prompts: the group size is the number of prompts in your advantages: it is the number of
answers to each
- group_advantages(rewards, group_size) -> group_advantages(rewards, len(prompts))
- group_advantages(rewards, group_size) -> VIEWED(rewards.view(-1, len(prompts)))

padding_counts: padding counts in the loss: pass rollouts.mask, which has a 1 for each real token
- advantages, rollouts.mask -> advantages, torch.ones_like(rollouts.mask)

whole_sequence: the loss covers the prompts as well: an answer's own tokens are
rollouts.completions, with rollouts.mask
- loss = grpo_loss( -> every = token_logps(policy(input_ids=rollouts.ids).logits[:, :-1], rollouts.ids[:, 1:]); logps = torch.cat([torch.zeros_like(every[:, :1]), every], 1); old = logps.detach(); loss = grpo_loss(
+ rollouts.mask, old -> rollouts.attention, old

all_tokens_alike: you average over all tokens of the batch: `grpo_loss` takes the mean of each
answer first
- loss = grpo_loss( -> loss = (lambda a, b, m, **_: -((a - a.detach()).exp() * b[:, None] * m).sum() / m.sum())(

summed: the loss is summed over the answers, or over the groups: the loss of the whole batch is
their mean, which `grpo_loss` returns
- loss.backward() -> loss = loss * len(rewards); loss.backward()
- loss.backward() -> loss = loss * len(prompts); loss.backward()

sign: the sign of the loss is wrong: `grpo_loss` is already something to minimise
- loss = grpo_loss -> loss = -grpo_loss

loss_returned: you return the loss, which is 0 here: return the norm of the gradient
- norm.item() -> loss.item()

advantages_returned: you return the advantages: return the rewards
- return (rewards, -> return (advantages,
"""
GRPO_STEP = mistakes(TEXT.replace("VIEWED", VIEWED))
