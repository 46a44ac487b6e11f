"""Common mistakes in the training loop, as edits of the right answer (`check/_answers.py`)."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

TRAIN = mistakes("""
weights_unchanged: the weights are the same at every batch. Inside the loop, each batch needs its
loss.backward(), then optimizer.step(), and only after that optimizer.zero_grad()
- optimizer.step() -> pass
- loss.backward() -> pass
- loss.backward() -> loss.backward(); optimizer.zero_grad()

gradients_pile_up: the gradients of earlier batches are still there: backward() adds to them, so
optimizer.zero_grad() has to clear them after each step
- optimizer.zero_grad() -> pass

not_shifted: logits and labels aren't shifted against each other: the logits at t predict the token
at t + 1, so logits[:, :-1] go with ids[:, 1:]
- sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> sft_loss(logits, ids, mask)

shifted_backwards: the shift goes the wrong way, so that each position is trained to give the token
before it: logits[:, :-1] go with ids[:, 1:]
- sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> sft_loss(logits[:, 1:], ids[:, :-1], mask[:, :-1])
- sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> sft_loss(logits[:, 1:], ids[:, :-1], mask[:, 1:])

mask_not_shifted: the labels are shifted and the mask isn't: it marks labels, so it is cut as they
are, mask[:, 1:]. Otherwise the last token of a reply, its end of turn, isn't trained
- mask[:, 1:] -> mask[:, :-1]

prompt_trained: the prompt is trained as well: attention_mask says what is read, loss_mask what is
trained
- mask[:, 1:] -> batch['attention_mask'][:, 1:]

everything_trained: all positions are trained, the prompt and the padding too: the loss mask has no
effect
- mask[:, 1:] -> torch.ones_like(mask)[:, 1:]

inverted_mask: the loss mask is inverted: 1 marks the tokens that are trained
- mask[:, 1:] -> (1 - mask)[:, 1:]

masked_labels_trained: masked labels are set to 0, but 0 is a real token, so it is trained:
cross_entropy ignores the label -100
- loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), (ids * mask)[:, 1:].flatten())

shifted_twice: labels or mask are shifted by two: by one is enough, and a model that gets `labels`
shifts them itself
- loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> loss = sft_loss(logits[:, :-2], ids[:, 2:], mask[:, 2:])
- loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> loss = sft_loss(logits[:, :-2], ids[:, 1:-1], mask[:, 2:])

mean_of_row_means: you average each row first and then the rows: divide once, by all trained tokens
of the batch
- loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> loss = ((F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction='none') * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1)).mean()

mean_over_padding: you divide by the number of all tokens: divide by that of the trained ones
- loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> loss = (F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction='none') * mask[:, 1:]).mean()

summed: you sum over the tokens: divide by the number of the trained ones, and not of the rows
- loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> loss = (F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction='none') * mask[:, 1:]).sum()
- loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> loss = (F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction='none') * mask[:, 1:]).sum(1).mean()

attention_ignored: the model doesn't get the attention_mask: where padding comes first, it is read
as if it were text
- attention_mask=batch['attention_mask'] -> attention_mask=None

prompt_hidden: the model can't read the prompt: the loss mask belongs to the loss only, and the
model gets the whole input_ids with the attention_mask
- input_ids=ids -> input_ids=ids * mask
- attention_mask=batch['attention_mask'] -> attention_mask=mask

not_clipped: the gradients aren't clipped when the optimizer steps: clip_grad_norm_ belongs between
loss.backward() and optimizer.step()
- torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) -> pass

clipped_by_value: each entry of the gradients is clipped on its own: clip_grad_norm_ shortens them
all together, which keeps their direction
- clip_grad_norm_ -> clip_grad_value_

clipped_apart: each weight matrix is clipped on its own: clip_grad_norm_ takes all the model's
parameters at once and scales them together
- torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) -> [torch.nn.utils.clip_grad_norm_([p], 1.0) for p in model.parameters()]

clipped_elsewhere: the gradients are scaled to another norm: 1.0 is an upper limit, and gradients
below it stay as they are
- torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) -> torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
- torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) -> torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
- torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) -> [p.grad.div_(n) for n in [torch.cat([p.grad.flatten() for p in model.parameters()]).norm()] for p in model.parameters()]

stepped_twice: the optimizer or the scheduler steps twice per batch: each takes one step
- optimizer.step() -> optimizer.step(); optimizer.step()
- scheduler.step() -> scheduler.step(); scheduler.step()

loss_after_step: you return the loss after the batch's step: return the one that the step came from
- losses.append(loss.item()) -> losses.append(sft_loss(model(input_ids=ids, attention_mask=batch['attention_mask']).logits[:, :-1], ids[:, 1:], mask[:, 1:]).item())

perplexity: you return the perplexity, e to the loss: return the loss itself
- losses.append(loss.item()) -> losses.append(loss.exp().item())

rate_stays: the learning rate never falls: scheduler.step() belongs in the loop, once per batch
- scheduler.step() -> pass

rate_falls_early: the scheduler steps before the optimizer, so the first batch already gets the
second learning rate
- optimizer.step() -> scheduler.step(); optimizer.step()
+ scheduler.step()
        optimizer.zero_grad -> optimizer.zero_grad

sign: the loss has the wrong sign: minimising it makes the replies less likely
- sft_loss(logits -> -sft_loss(logits
- loss.backward() -> (-loss).backward()

divided: you divide by the number of batches: each batch takes a step of its own here, so its loss
stays as it is
- loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) -> loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:]) / len(batches)
- losses.append(loss.item()) -> losses.append(loss.item() / len(batches))

running_mean: you return the mean of the losses so far: return each batch's own loss
- return losses -> return [sum(losses[:i + 1]) / (i + 1) for i in range(len(losses))]

running_sum: you add the losses up: return each batch's own loss
- return losses -> return [sum(losses[:i + 1]) for i in range(len(losses))]
""")
