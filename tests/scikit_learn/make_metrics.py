"""Writes metrics.json: predictions with ties and classes without images, and what scikit-learn makes of them.

    python tests/scikit_learn/make_metrics.py

Scores are whole numbers; a row of them over its sum is what a model said of an image.
"""

import json
import pathlib
import warnings

import numpy as np
from sklearn import metrics
from sklearn.calibration import calibration_curve

BINS = 15
TOP = 5


def number(value):
    return None if np.isnan(value) else float(value)


def ranked(is_of, score):
    both = 0 < is_of.sum() < len(is_of)
    return {
        "auc": float(metrics.roc_auc_score(is_of, score)) if both else None,
        "average_precision": float(metrics.average_precision_score(is_of, score)) if is_of.any() else None,
    }


def best_threshold(is_of, score):
    if not is_of.any():
        return {"best_threshold": None, "f1_there": None}
    thresholds = sorted(set(score.tolist()), reverse=True)
    f1 = [metrics.f1_score(is_of, score >= threshold) for threshold in thresholds]
    return {"best_threshold": float(thresholds[int(np.argmax(f1))]), "f1_there": float(max(f1))}


def mean(values):
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def classification(rng, classes, images, empty):
    labels = rng.choice([c for c in range(classes) if c not in empty], size=images)
    scores = rng.integers(1, 6, size=(images, classes))
    likely = rng.random(images) < 0.6
    scores[np.arange(images)[likely], labels[likely]] += rng.integers(1, 9, size=likely.sum())
    values = (scores / scores.sum(1, keepdims=True).astype(np.float32)).astype(np.float32)
    decided = values.argmax(1)
    present = sorted(set(labels.tolist()))
    every = list(range(classes))

    def averages(name):
        found = metrics.precision_recall_fscore_support(labels, decided, labels=present, average=name, zero_division=0)
        return {f"{name}_{key}": float(value) for key, value in zip(["precision", "recall", "f1"], found)}

    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, decided, labels=every, zero_division=np.nan)
    taken = np.bincount(decided, minlength=classes)
    per_class = []
    for c in every:
        has = support[c] > 0
        per_class.append({
            "images": int(support[c]),
            "precision": 0.0 if has and taken[c] == 0 else number(precision[c]),
            "recall": number(recall[c]),
            "f1": number(f1[c]) if has else None,
            **ranked(labels == c, values[:, c]),
        })
    whole = {
        "accuracy": float(metrics.accuracy_score(labels, decided)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(labels, decided)),
        **averages("macro"),
        **averages("weighted"),
        "matthews_correlation": float(metrics.matthews_corrcoef(labels, decided)),
        "cohen_kappa": float(metrics.cohen_kappa_score(labels, decided)),
        "macro_auc": mean(c["auc"] for c in per_class),
        "macro_average_precision": mean(c["average_precision"] for c in per_class),
    }
    if classes > TOP:
        whole["top5_accuracy"] = float(metrics.top_k_accuracy_score(labels, values, k=TOP, labels=every))
    confidence = values.max(1).astype(np.float64)
    right = decided == labels
    accuracy, confident = calibration_curve(right, confidence, n_bins=BINS, strategy="uniform")
    return {
        "scores": scores.tolist(), "labels": labels.tolist(), "whole": whole, "per_class": per_class,
        "confusion": metrics.confusion_matrix(labels, decided, labels=every).tolist(),
        "reliability": [[float(a), float(c)] for a, c in zip(accuracy, confident)],
    }


def multi_label(rng, classes, images, empty):
    labels = (rng.random((images, classes)) < np.linspace(0.1, 0.7, classes)).astype(int)
    labels[:, empty] = 0
    scores = np.clip(rng.integers(0, 13, size=(images, classes)) + 4 * labels, 0, 16)
    values = (scores / 16).astype(np.float32)
    decided = (values > 0.5).astype(int)
    per_class = []
    for c in range(classes):
        has = labels[:, c].any()
        found = metrics.precision_recall_fscore_support(
            labels[:, c], decided[:, c], average="binary", zero_division=np.nan)
        any_decided = decided[:, c].any()
        per_class.append({
            "images": int(labels[:, c].sum()),
            "precision": number(found[0]),
            "recall": number(found[1]),
            "f1": number(found[2]) if has or any_decided else None,
            **ranked(labels[:, c], values[:, c]),
            **best_threshold(labels[:, c], values[:, c]),
        })
    whole = {
        "mean_average_precision": mean(c["average_precision"] for c in per_class),
        "macro_auc": mean(c["auc"] for c in per_class),
        "accuracy": 1.0 - float(metrics.hamming_loss(labels, decided)),
        "exact_match": float(metrics.accuracy_score(labels, decided)),
        "micro_f1": float(metrics.f1_score(labels, decided, average="micro")),
        "macro_f1": mean(c["f1"] for c in per_class),
    }
    return {"scores": scores.tolist(), "labels": labels.tolist(), "whole": whole, "per_class": per_class}


def main():
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(7)
    cases = {
        "classification": [
            classification(rng, 2, 60, []),
            classification(rng, 10, 120, [3]),
            classification(rng, 100, 220, [0, 17, 99]),
            classification(rng, 3, 40, [0, 2]),
        ],
        "multi_label": [multi_label(rng, 5, 80, [2])],
    }
    path = pathlib.Path(__file__).with_name("metrics.json")
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
