"""Wrong answers to `loss_mask`, as people write them."""


def stops_before_the_end_of_turn(input_ids, *, header, end_of_turn):
    mask = [0] * len(input_ids)
    n, i = len(header), 0
    while i < len(input_ids):
        if input_ids[i : i + n] == header:
            i += n
            while i < len(input_ids) and input_ids[i] != end_of_turn:
                mask[i] = 1
                i += 1
        i += 1
    return mask


def trains_the_header(input_ids, *, header, end_of_turn):
    mask, on = [], False
    for i, token in enumerate(input_ids):
        if input_ids[i : i + len(header)] == header:
            on = True
        mask.append(1 if on else 0)
        if token == end_of_turn:
            on = False
    return mask


def breaks_after_the_first_turn(input_ids, *, header, end_of_turn):
    mask = [0] * len(input_ids)
    for i in range(len(input_ids) - len(header) + 1):
        if input_ids[i : i + len(header)] == header:
            j = i + len(header)
            while j < len(input_ids):
                mask[j] = 1
                if input_ids[j] == end_of_turn:
                    break
                j += 1
            return mask
    return mask


def starts_anew_at_each_turn(input_ids, *, header, end_of_turn):
    mask = [0] * len(input_ids)
    for i in range(len(input_ids)):
        if input_ids[i : i + len(header)] == header:
            mask = [0] * len(input_ids)
            start = i + len(header)
            stop = start
            while stop < len(input_ids) and input_ids[stop] != end_of_turn:
                stop += 1
            for k in range(start, min(stop + 1, len(input_ids))):
                mask[k] = 1
    return mask


def never_switches_off(input_ids, *, header, end_of_turn):
    mask, on = [], 0
    for i in range(len(input_ids)):
        if i >= len(header) and input_ids[i - len(header) : i] == header:
            on = 1
        mask.append(on)
    return mask


def looks_for_im_start(input_ids, *, header, end_of_turn):
    mask, on = [], 0
    for token in input_ids:
        mask.append(on)
        if token == header[0]:
            on = 1
        elif token == end_of_turn:
            on = 0
    return mask


def looks_for_the_word_assistant(input_ids, *, header, end_of_turn):
    assistant = header[1]
    mask, on, wait = [], False, 0
    for token in input_ids:
        if wait:
            wait -= 1
            on = wait == 0
            mask.append(0)
            continue
        mask.append(int(on))
        if token == end_of_turn:
            on = False
        if token == assistant and not on:
            wait = len(header) - 2
    return mask


def compares_with_a_tuple(input_ids, *, header, end_of_turn):
    mask, on = [], False
    header = tuple(header)
    for i, token in enumerate(input_ids):
        mask.append(int(on))
        if token == end_of_turn:
            on = False
        if input_ids[i - len(header) + 1 : i + 1] == header:
            on = True
    return mask


def turns_one_too_far(input_ids, *, header, end_of_turn):
    mask = [0] * len(input_ids)
    for i in range(len(input_ids)):
        if input_ids[i : i + len(header)] == header:
            start = i + len(header)
            end = input_ids.index(end_of_turn, start)
            for k in range(start, end + 2):
                mask[k] = 1
    return mask


def off_by_one_at_the_start(input_ids, *, header, end_of_turn):
    mask = [0] * len(input_ids)
    for i in range(len(input_ids)):
        if input_ids[i : i + len(header)] == header:
            k = i + len(header) - 1
            while k < len(input_ids):
                mask[k] = 1
                if input_ids[k] == end_of_turn:
                    break
                k += 1
    return mask


def marks_every_end_of_turn(input_ids, *, header, end_of_turn):
    mask, on = [0] * len(input_ids), False
    for i in range(len(input_ids)):
        if on or input_ids[i] == end_of_turn:
            mask[i] = 1
        if input_ids[i] == end_of_turn:
            on = False
        if i + 1 >= len(header) and input_ids[i + 1 - len(header) : i + 1] == header:
            on = True
    return mask


def index_and_hope(input_ids, *, header, end_of_turn):
    mask = [0] * len(input_ids)
    for i in range(len(input_ids)):
        if input_ids[i : i + len(header)] == header:
            start = i + len(header)
            stop = input_ids.index(end_of_turn, start)
            mask[start : stop + 1] = [1] * (stop + 1 - start)
    return mask


def labels_instead_of_a_mask(input_ids, *, header, end_of_turn):
    labels, on = [], False
    for i, token in enumerate(input_ids):
        labels.append(token if on else -100)
        if token == end_of_turn:
            on = False
        if i + 1 >= len(header) and input_ids[i + 1 - len(header) : i + 1] == header:
            on = True
    return labels


def walks_without_moving(input_ids, *, header, end_of_turn):
    mask, i = [], 0
    while i < len(input_ids):
        if input_ids[i : i + len(header)] == header:
            mask += [0] * len(header)
        else:
            mask.append(0)
            i += 1
    return mask[: len(input_ids)]


def pops_from_the_input(input_ids, *, header, end_of_turn):
    mask, on, seen = [], False, []
    while input_ids:
        token = input_ids.pop(0)
        seen.append(token)
        mask.append(1 if on else 0)
        if token == end_of_turn:
            on = False
        if seen[-len(header) :] == header:
            on = True
    return mask


def anything_but_the_markers(input_ids, *, header, end_of_turn):
    return [0 if token in header or token == end_of_turn else 1 for token in input_ids]


def flag_first_then_append(input_ids, *, header, end_of_turn):
    mask, on = [], False
    for i in range(len(input_ids)):
        if input_ids[i : i + len(header)] == header:
            on = True
        if input_ids[i] == end_of_turn:
            on = False
        mask.append(int(on))
    return mask


def a_tensor(input_ids, *, header, end_of_turn):
    import torch

    return torch.tensor(input_ids) == end_of_turn


MUTANTS = {
    "stops_before_the_end_of_turn": "end_of_turn_not_trained",
    "trains_the_header": "header_trained",
    "breaks_after_the_first_turn": "first_reply_only",
    "starts_anew_at_each_turn": "last_reply_only",
    "never_switches_off": "questions_trained",
    "looks_for_im_start": "any_turn",
    "looks_for_the_word_assistant": "part_of_header",
    "compares_with_a_tuple": "nothing",
    "turns_one_too_far": "ends_late",
    "off_by_one_at_the_start": "starts_early",
    "marks_every_end_of_turn": "every_end_of_turn",
    "index_and_hope": "cut_reply",
    "labels_instead_of_a_mask": "token_ids",
    "walks_without_moving": "never_ends",
    "pops_from_the_input": "edits_inputs",
    "anything_but_the_markers": "token_by_token",
    "flag_first_then_append": "turn_not_reply",
    "a_tensor": "wrong_type",
}
