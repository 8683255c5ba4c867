"""The parts of ONNX that TensorRT releases read: the table that `lint` checks a graph against.

Sources: the operator tables and the changelog of onnx-tensorrt, TensorRT's ONNX parser, from 10.0 to 10.16, and the
parser of TensorRT 11.4 asked operator by operator (`OnnxParser.supports_operator`).
"""

from __future__ import annotations

MAX_DIMENSIONS = 8
MAX_TOPK = 3840


# Operators that no release reads.
UNREAD_OPERATORS = frozenset(
    {
        "AffineGrid",
        "Bernoulli",
        "BitCast",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "CenterCropPad",
        "Col2Im",
        "Compress",
        "ConcatFromSequence",
        "ConvInteger",
        "CumProd",
        "DFT",
        "Det",
        "DynamicQuantizeLinear",
        "ImageDecoder",
        "MatMulInteger",
        "MaxRoiPool",
        "MaxUnpool",
        "MelWeightMatrix",
        "Multinomial",
        "NegativeLogLikelihoodLoss",
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "QLinearConv",
        "QLinearMatMul",
        "RegexFullMatch",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceLength",
        "SequenceMap",
        "SoftmaxCrossEntropyLoss",
        "SplitToSequence",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "TfIdfVectorizer",
        "Unique",
    }
)

# Operators that a release before this one does not read, though its range of opsets has them.
READ_SINCE = {
    "BlackmanWindow": (10, 4),
    "DeformConv": (10, 1),
    "HammingWindow": (10, 4),
    "HannWindow": (10, 4),
    "STFT": (10, 5),
}

# What to write instead, where there is something better than "express it in other operators".
REPLACEMENTS = {
    "ConvInteger": "quantize with QuantizeLinear and DequantizeLinear around Conv",
    "DynamicQuantizeLinear": "quantize statically: `dualexport int8` writes fixed scales",
    "MatMulInteger": "quantize with QuantizeLinear and DequantizeLinear around MatMul",
    "QLinearConv": "quantize in Q/DQ form instead of QOperator form",
    "QLinearMatMul": "quantize in Q/DQ form instead of QOperator form",
}

# Tensor types that no release computes in, and what to use instead. float64 would silently become float32.
UNREAD_TYPES = {
    "DOUBLE": "float32",
    "UINT16": "int32",
    "UINT32": "int64",
    "UINT64": "int64",
    "INT16": "int32",
    "STRING": "integer labels",
    "COMPLEX64": "a trailing axis of real and imaginary parts",
    "COMPLEX128": "a trailing axis of real and imaginary parts",
}

# uint8 is a type to deliver images in, not one to compute in: these alone take it.
UINT8_OPERATORS = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})
