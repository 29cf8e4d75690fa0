"""Protobuf wire format by hand, for messages that a correct library refuses to make."""


def varint(value):
    out = bytearray()
    value &= (1 << 64) - 1
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value):
    return varint((value << 1) ^ (value >> 63))


def field_bytes(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def field_varint(number, value):
    return varint(number << 3) + varint(value)


def field_fixed64(number, value):
    return varint(number << 3 | 1) + value.to_bytes(8, "little")


def packed_sint64(number, values):
    return field_bytes(number, b"".join(zigzag(value) for value in values))


def deltas(values):
    """The first value, then the differences: how columns are stored."""
    return [b - a for a, b in zip([0, *values], values)]
