"""The evaluations of Pascal VOC, Cityscapes and the CVPPP leaf challenge, and the result files of each."""
