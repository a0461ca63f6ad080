"""Confidence that means something: a temperature, the error that is left, and a threshold for a stated precision."""

from torch.nn import functional as F


def temperature(logits, labels):
    """The scalar that minimises the cross-entropy of softmax(logits / temperature), by golden-section search."""
    low, high, ratio = 0.05, 5.0, (5**0.5 - 1) / 2

    def loss(t):
        return F.cross_entropy(logits / t, labels).item()

    for _ in range(40):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return round((low + high) / 2, 3)


def confidences(logits, t):
    """Largest softmax(logits / t), and its class."""
    return F.softmax(logits / t, -1).max(-1)


def expected_calibration_error(confidence, correct, bins=15):
    """Mean over equal-width bins of |accuracy - confidence|, weighted by the images in the bin."""
    index = (confidence * bins).long().clamp(max=bins - 1)
    error = 0.0
    for b in range(bins):
        inside = index == b
        if inside.any():
            error += (correct[inside].float().mean() - confidence[inside].mean()).abs().item() * inside.sum().item()
    return error / len(confidence)


def threshold(confidence, correct, precision):
    """The least threshold, in hundredths, at and above which answers reach `precision`.

    Every higher threshold reaches it too, so that a lucky dip is not chosen.
    """
    best = 0.99
    for hundredth in range(99, -1, -1):
        kept = confidence >= hundredth / 100
        if kept.any() and correct[kept].float().mean().item() < precision:
            break
        best = hundredth / 100
    return best


def precision_and_coverage(confidence, correct, minimum):
    """Share of right answers among those at or above `minimum`, and their share of all."""
    kept = confidence >= minimum
    return correct[kept].float().mean().item(), kept.float().mean().item()
