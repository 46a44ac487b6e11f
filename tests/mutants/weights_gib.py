"""Wrong answers to `weights_gib`, as people write them."""


def no_constants(parameters, *, bits, block=64, constant_bits=32):
    return parameters * bits / 8 / 1024**3


def gigabytes(parameters, *, bits, block=64, constant_bits=32):
    size = parameters * bits / 8
    if bits < 16:
        size += parameters / block * constant_bits / 8
    return size / 1e9


def bits_are_bytes(parameters, *, bits, block=64, constant_bits=32):
    total = parameters * bits
    if bits < 16:
        total += parameters / block * constant_bits
    return total / 2**30


def stops_at_bytes(parameters, *, bits, block=64, constant_bits=32):
    overhead = constant_bits / block if bits < 16 else 0
    return parameters * (bits + overhead) / 8


def mebibytes(parameters, *, bits, block=64, constant_bits=32):
    overhead = constant_bits / block if bits < 16 else 0
    return parameters * (bits + overhead) / 8 / 1024 / 1024


def always_constants(parameters, *, bits, block=64, constant_bits=32):
    blocks = parameters / block
    return (parameters * bits + blocks * constant_bits) / 8 / 2**30


def only_for_four_bits(parameters, *, bits, block=64, constant_bits=32):
    total_bits = parameters * bits
    if bits == 4:
        total_bits += parameters / block * constant_bits
    return total_bits / 8 / 2**30


def constants_are_bytes(parameters, *, bits, block=64, constant_bits=32):
    total = parameters * bits / 8
    if bits < 16:
        total += parameters / block * constant_bits
    return total / 2**30


def one_constant_each(parameters, *, bits, block=64, constant_bits=32):
    if bits < 16:
        bits = bits + constant_bits
    return parameters * bits / 8 / 2**30


def always_32_bit_constants(parameters, *, bits, block=64, constant_bits=32):
    per_weight = bits + (32 / block if bits < 16 else 0)
    return parameters * per_weight / 8 / 2**30


def always_blocks_of_64(parameters, *, bits, block=64, constant_bits=32):
    per_weight = bits + (constant_bits / 64 if bits < 16 else 0)
    return parameters * per_weight / 8 / 2**30


def no_defaults(parameters, bits, block, constant_bits):
    per_weight = bits + (constant_bits / block if bits < 16 else 0)
    return parameters * per_weight / 8 / 2**30


def prints_it(parameters, *, bits, block=64, constant_bits=32):
    per_weight = bits + (constant_bits / block if bits < 16 else 0)
    print(parameters * per_weight / 8 / 2**30, "GiB")


def a_string(parameters, *, bits, block=64, constant_bits=32):
    per_weight = bits + (constant_bits / block if bits < 16 else 0)
    return f"{parameters * per_weight / 8 / 2**30:.2f} GiB"


def forgets_to_assign(parameters, *, bits, block=64, constant_bits=32):
    if bits < 16:
        extra = constant_bits / block
    return parameters * (bits + extra) / 8 / 2**30


def two_digits(parameters, *, bits, block=64, constant_bits=32):
    per_weight = bits + (constant_bits / block if bits < 16 else 0)
    return round(parameters * per_weight / 8 / 2**30, 2)


MUTANTS = {
    "no_constants": "constants_forgotten",
    "gigabytes": "decimal_gb",
    "bits_are_bytes": "bits_not_bytes",
    "stops_at_bytes": "bytes_not_gib",
    "mebibytes": "mib_not_gib",
    "always_constants": "constants_from_16",
    "only_for_four_bits": "constants_only_4_bits",
    "constants_are_bytes": "constant_in_bytes",
    "one_constant_each": "constant_a_weight",
    "always_32_bit_constants": "ignores_constant_bits",
    "always_blocks_of_64": "ignores_block",
    "no_defaults": "signature",
    "prints_it": "returns_none",
    "a_string": "wrong_type",
    "forgets_to_assign": "raises_UnboundLocalError",
    "two_digits": "rounded",
}
