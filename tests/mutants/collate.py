"""Wrong answers to `collate`, as people write them."""

import torch


def masks_by_id(sequences, starts, *, pad):
    width = max(len(ids) for ids in sequences)
    input_ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids in sequences])
    labels = input_ids.clone()
    for b, start in enumerate(starts):
        labels[b, :start] = -100
    labels[labels == pad] = -100
    return input_ids, labels


def reply_without_its_end(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), pad)
    labels = torch.full((len(sequences), width), -100)
    for b, ids in enumerate(sequences):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        stop = len(ids) - 1
        labels[b, starts[b] : stop] = torch.tensor(ids[starts[b] : stop])
    return input_ids, labels


def forgets_the_prompt(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids, labels = [], []
    for ids in sequences:
        rest = width - len(ids)
        input_ids.append(ids + [pad] * rest)
        labels.append(ids + [-100] * rest)
    return torch.tensor(input_ids), torch.tensor(labels)


def copies_everything(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids in sequences])
    return input_ids, input_ids.clone()


def forgets_the_padding(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids in sequences])
    labels = input_ids.clone()
    for b, start in enumerate(starts):
        labels[b, :start] = -100
    return input_ids, labels


def zeros_elsewhere(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), pad)
    labels = torch.zeros_like(input_ids)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        labels[b, start : len(ids)] = torch.tensor(ids[start:])
    return input_ids, labels


def pads_the_labels(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), pad)
    labels = torch.full_like(input_ids, pad)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        labels[b, start : len(ids)] = torch.tensor(ids[start:])
    return input_ids, labels


def shifts_them_itself(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), pad)
    labels = torch.full_like(input_ids, -100)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        labels[b, start - 1 : len(ids) - 1] = torch.tensor(ids[start:])
    return input_ids, labels


def one_too_late(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids in sequences])
    place = torch.arange(width)
    ends = torch.tensor([[len(ids)] for ids in sequences])
    trained = (place > torch.tensor(starts)[:, None]) & (place < ends)
    return input_ids, input_ids.masked_fill(~trained, -100)


def one_too_early(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids in sequences])
    place = torch.arange(width)
    ends = torch.tensor([[len(ids)] for ids in sequences])
    trained = (place >= torch.tensor(starts)[:, None] - 1) & (place < ends)
    return input_ids, input_ids.masked_fill(~trained, -100)


def a_mask(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), pad)
    mask = torch.zeros_like(input_ids)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        mask[b, start : len(ids)] = 1
    return input_ids, mask


def on_the_left(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), pad)
    labels = torch.full_like(input_ids, -100)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, width - len(ids) :] = torch.tensor(ids)
        labels[b, width - len(ids) + start :] = torch.tensor(ids[start:])
    return input_ids, labels


def to_the_shortest(sequences, starts, *, pad):
    width = min(map(len, sequences))
    input_ids = torch.tensor([ids[:width] for ids in sequences])
    labels = input_ids.clone()
    for b, start in enumerate(starts):
        labels[b, :start] = -100
    return input_ids, labels


def fills_with_ignored(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), -100)
    for b, ids in enumerate(sequences):
        input_ids[b, : len(ids)] = torch.tensor(ids)
    labels = input_ids.clone()
    for b, start in enumerate(starts):
        labels[b, :start] = -100
    return input_ids, labels


def a_ragged_tensor(sequences, starts, *, pad):
    input_ids = torch.tensor(sequences)
    labels = input_ids.clone()
    for b, start in enumerate(starts):
        labels[b, :start] = -100
    return input_ids, labels


def fills_the_callers_lists(sequences, starts, *, pad):
    lengths = [len(ids) for ids in sequences]
    for ids in sequences:
        ids += [pad] * (max(lengths) - len(ids))
    input_ids = torch.tensor(sequences)
    labels = input_ids.clone()
    for b, (start, stop) in enumerate(zip(starts, lengths, strict=True)):
        labels[b, :start] = -100
        labels[b, stop:] = -100
    return input_ids, labels


def labels_alone(sequences, starts, *, pad):
    width = max(map(len, sequences))
    labels = torch.full((len(sequences), width), -100)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        labels[b, start : len(ids)] = torch.tensor(ids[start:])
    return labels


def float_labels(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.full((len(sequences), width), pad)
    labels = torch.ones(len(sequences), width) * -100
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        labels[b, start : len(ids)] = torch.tensor(ids[start:]).float()
    return input_ids, labels


MUTANTS = {
    "masks_by_id": "pad_masked",
    "reply_without_its_end": "end_of_turn_not_trained",
    "forgets_the_prompt": "prompt_trained",
    "copies_everything": "all_trained",
    "forgets_the_padding": "padding_trained",
    "zeros_elsewhere": "zeros",
    "pads_the_labels": "pad_for_ignored",
    "shifts_them_itself": "shifted",
    "one_too_late": "starts_late",
    "one_too_early": "starts_early",
    "a_mask": "mask_not_labels",
    "on_the_left": "left_padding",
    "to_the_shortest": "cut_to_shortest",
    "fills_with_ignored": "padded_with_ignored",
    "a_ragged_tensor": "raises_ValueError",
    "fills_the_callers_lists": "edits_inputs",
    "labels_alone": "wrong_count",
    "float_labels": "wrong_dtype",
}
