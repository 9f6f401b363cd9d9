from bench.values import Variant

VARIANTS: list[Variant] = []
