"""Scores of a model on a dataset.

- `scoring`: `evaluate(predictor, dataset)` → `Scores`, what `rsis evaluate` reports. The scores are the rows of
  `metrics/table.py`.
- `predictions`: runs a predictor over a dataset and passes each image with its predictions on.
- `protocols`: the paper's protocols by name; `protocol_masks` draws masks as they say.
- `metrics/`: one file for each family of metrics. `benchmarks/`: Pascal VOC, Cityscapes and the CVPPP leaf challenge
  in the format and by the rules of each. `studies/`: the paper's ablation table and its study of object order.
- `stopping` calibrates the objectness, `overlays` draws predictions beside the truth, `report` writes a run as HTML.
"""
