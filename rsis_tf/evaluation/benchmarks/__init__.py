"""The evaluations of Pascal VOC, Cityscapes and CVPPP."""
