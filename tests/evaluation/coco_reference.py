"""The reference for average precision: pycocotools as its authors use it."""

import contextlib
import io

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rsis_tf.evaluation.metrics.average_precision import AveragePrecision


def official(dataset, predictions, *, every_class=False, agnostic=False, min_share=0.0, crowd=None, max_dets=(10, 50)):
    """Runs pycocotools from annotations to numbers, with run-length codes; it shares no code with what is tested."""
    images, truths, found = [], [], []
    for sample in dataset.samples:
        height, width = sample.label_map.shape
        void = sample.label_map == -1
        images.append({"id": sample.image_id, "height": height, "width": width})
        for i, c in enumerate(sample.classes):
            mask = sample.label_map == i + 1
            if mask.any():
                is_crowd = int(crowd is not None and crowd[sample.image_id][i])
                truths.append(annotation(sample, mask, c, len(truths) + 1) | {"iscrowd": is_crowd})
        for p in predictions[sample.image_id]:
            mask = p.mask & ~void
            if not mask.any() or mask.sum() < min_share * mask.size:
                continue
            for c in range(1, len(dataset.class_names)) if every_class else [p.class_id]:
                score = float(p.class_probs[c]) * p.objectness if every_class else p.score
                found.append(annotation(sample, mask, c, 0) | {"score": score})
    categories = [{"id": c} for c in range(1, len(dataset.class_names))]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": truths, "categories": categories, "info": {}}
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(found), "segm")
        if agnostic:
            run.params.useCats, run.params.maxDets, run.params.iouThrs = 0, list(max_dets), np.array([0.5, 0.7, 0.85])
        run.evaluate()
        run.accumulate()
    return run.eval


def annotation(sample, mask, category, number):
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "id": number,
        "image_id": sample.image_id,
        "category_id": int(category),
        "segmentation": code,
        "area": int(mask.sum()),
        "bbox": coco_mask.toBbox(code).tolist(),
    }


def ours(dataset, predictions, order=slice(None), crowd=None, **options):
    precision = AveragePrecision(dataset.class_names, **options)
    for sample in dataset.samples[order]:
        flags = None if crowd is None else crowd[sample.image_id]
        precision.add(sample.image_id, predictions[sample.image_id], sample.label_map, sample.classes, crowd=flags)
    return precision
