"""Networks of integers alone: what they compute is the same to the bit on every machine, in any order of sums.

An integer below 2^24 is exact in float32, and so is every sum whose terms stay below that together. So the networks
here carry integers in floating-point tensors: matrices multiply as fast as ever, and no rounding is left to a machine.

- *narrow* numbers, -127 .. 127, are what is multiplied: activations, each tensor with a step that is a power of 2, and
  weights, each output channel with a step that is a power of 2.
- *wide* numbers are multiples of 2^-10 of at most 2^12 (integers up to 2^22): sums of residual streams, what stands
  before a nonlinearity.
- logits are multiples of 2^-8 nats.
"""
