"""Wrong answers to `nf4_codes`, as people write them."""

import torch


def does_not_scale(w, codebook):
    absmax = w.abs().max(dim=1).values
    codes = (w[:, :, None] - codebook).abs().argmin(dim=-1)
    return codes.to(torch.uint8), absmax


def max_without_abs(w, codebook):
    absmax = w.max(dim=1).values
    scaled = w / absmax[:, None]
    return (scaled[..., None] - codebook).abs().argmin(-1).to(torch.uint8), absmax


def keeps_the_sign(w, codebook):
    place = w.abs().argmax(dim=1, keepdim=True)
    absmax = torch.gather(w, 1, place)
    scaled = w / absmax
    codes = (scaled.unsqueeze(2) - codebook).abs().argmin(2).to(torch.uint8)
    return codes, absmax[:, 0]


def one_scale_for_all(w, codebook):
    absmax = w.abs().max()
    scaled = w / absmax
    codes = torch.argmin(torch.abs(scaled.unsqueeze(-1) - codebook), dim=-1)
    return codes.to(torch.uint8), absmax.repeat(w.shape[0])


def down_the_columns(w, codebook):
    absmax = w.abs().amax(dim=0)
    codes = ((w / absmax).unsqueeze(-1) - codebook).abs().argmin(-1).to(torch.uint8)
    return codes, absmax


def searchsorted_is_nearest(w, codebook):
    absmax = w.abs().amax(dim=1)
    codes = torch.searchsorted(codebook, w / absmax[:, None])
    return codes.to(torch.uint8), absmax


def rounds_towards_minus_one(w, codebook):
    absmax = w.abs().amax(dim=1)
    scaled = (w / absmax[:, None]).contiguous()
    codes = torch.bucketize(scaled, codebook, right=True) - 1
    return codes.to(torch.uint8), absmax


def forgets_the_distance(w, codebook):
    absmax = w.abs().amax(dim=1, keepdim=True)
    codes = (w / absmax).unsqueeze(-1).sub(codebook).argmin(-1).to(torch.uint8)
    return codes, absmax.squeeze(1)


def evenly_spaced(w, codebook):
    absmax = w.abs().amax(dim=1, keepdim=True)
    codes = torch.round((w / absmax + 1) / 2 * 15).to(torch.uint8)
    return codes, absmax.squeeze(1)


def dequantises_at_once(w, codebook):
    absmax = w.abs().amax(dim=1)
    codes = ((w / absmax[:, None])[..., None] - codebook).abs().argmin(-1)
    return codebook[codes], absmax


def leaves_int64(w, codebook):
    absmax = w.abs().amax(dim=1)
    return ((w / absmax[:, None])[..., None] - codebook).abs().argmin(-1), absmax


def keeps_the_axis(w, codebook):
    absmax = w.abs().amax(dim=1, keepdim=True)
    return ((w / absmax)[..., None] - codebook).abs().argmin(-1).to(torch.uint8), absmax


def absmax_first(w, codebook):
    absmax = w.abs().amax(dim=1)
    codes = ((w / absmax[:, None])[..., None] - codebook).abs().argmin(-1).to(torch.uint8)
    return absmax, codes


def codes_alone(w, codebook):
    absmax = w.abs().amax(dim=1)
    return ((w / absmax[:, None])[..., None] - codebook).abs().argmin(-1).to(torch.uint8)


def divides_in_place(w, codebook):
    absmax = w.abs().amax(dim=1)
    w /= absmax.clamp(min=1e-12)[:, None]
    return (w[..., None] - codebook).abs().argmin(-1).to(torch.uint8), absmax


def broadcasts_the_wrong_way(w, codebook):
    absmax = w.abs().amax(dim=1)
    scaled = w / absmax
    return (scaled[..., None] - codebook).abs().argmin(-1).to(torch.uint8), absmax


def divides_by_zero(w, codebook):
    absmax = w.abs().amax(dim=1)
    codes = ((w / absmax[:, None])[..., None] - codebook).abs().argmin(-1).to(torch.uint8)
    return codes, absmax


def no_axis_to_compare(w, codebook):
    absmax = w.abs().max(dim=1, keepdim=True).values
    codes = torch.argmin((w / absmax - codebook).abs(), dim=-1)
    return codes.to(torch.uint8), absmax.squeeze(1)


def counts_from_one(w, codebook):
    absmax = w.abs().max(dim=1).values
    distances = ((w / absmax[:, None])[:, :, None] - codebook).abs()
    return (distances.argmin(dim=-1) + 1).to(torch.uint8), absmax


MUTANTS = {
    "does_not_scale": "not_divided",
    "max_without_abs": "largest_not_absolute",
    "keeps_the_sign": "absmax_signed",
    "one_scale_for_all": "one_absmax",
    "down_the_columns": "wrong_axis",
    "searchsorted_is_nearest": "rounds_up",
    "rounds_towards_minus_one": "rounds_down",
    "forgets_the_distance": "distance_signed",
    "evenly_spaced": "even_steps",
    "dequantises_at_once": "values_not_codes",
    "leaves_int64": "wrong_dtype",
    "keeps_the_axis": "absmax_not_squeezed",
    "absmax_first": "outputs_swapped",
    "codes_alone": "wrong_count",
    "divides_in_place": "edits_inputs",
    "divides_by_zero": "zero_block",
    "broadcasts_the_wrong_way": "raises_RuntimeError",
    "no_axis_to_compare": "no_axis_for_the_codebook",
    "counts_from_one": "codes_from_1",
}
