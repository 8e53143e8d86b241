"""Generated rosette plants seen from above, in the manner of the leaf segmentation challenge (CVPPP A1).

`plant` grows a plant, `leaf` turns each leaf into pixels, `surface` paints it, `ground` paints what lies below,
`camera` lights and takes the image, `dataset` joins them.
"""
