"""Reads TensorBoard's files in a folder with the tensorboard package and prints what it finds as JSON.

    python tests/cli/read_events.py FOLDER
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
events.Reload()
tags = events.Tags()
histograms = {}
for tag in tags["histograms"]:
    last = events.Histograms(tag)[-1]
    value = last.histogram_value
    histograms[tag] = {"step": last.step, "num": value.num, "min": value.min, "max": value.max, "buckets": sum(value.bucket)}
images = {}
for tag in tags["images"]:
    image = events.Images(tag)[-1]
    images[tag] = {"width": image.width, "height": image.height, "png": image.encoded_image_string[:4].hex()}
curves = {}
for tag in tags["tensors"]:
    if events.SummaryMetadata(tag).plugin_data.plugin_name == "pr_curves":
        array = tensor_util.make_ndarray(events.Tensors(tag)[-1].tensor_proto)
        curves[tag] = {"shape": list(array.shape), "recall": float(array[5][0])}
print(json.dumps({
    "scalars": {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]},
    "histograms": histograms,
    "images": images,
    "pr_curves": curves,
    "nodes": [node.name for node in events.Graph().node] if tags["graph"] else [],
}))
