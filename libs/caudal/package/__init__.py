"""The model package: all that scoring needs, in one committed folder.

    booster.ubj         the model, XGBoost's binary JSON
    model.onnx          the same for ONNX Runtime; parity was proven when the package was made
    contract.yaml       the contract as it was
    encoder.json        how features become the matrix, with the categories that training saw
    metadata.json       version, rows, period, snapshot, unit, parameters, threshold, calibration, metrics by slice
    profile.json        what features and scores looked like in training, in fixed bins
    input_example.json  a made-up row
    MODEL_CARD.md       the same facts for people

A package holds no timing, no commit and no path: the same inputs give the same bytes.
"""

from caudal.package.calibration import Calibrator
from caudal.package.encoder import Encoder
from caudal.package.reader import ModelPackage, open_package
from caudal.package.writer import PackageContent, write_package

__all__ = ["Calibrator", "Encoder", "ModelPackage", "PackageContent", "open_package", "write_package"]
