"""The pretrained face model: it knows people it never saw, and says clearly when it is not here."""

import importlib.util

import pytest
import torch

from divulge.data import load
from divulge.errors import BadInputError, MissingExtraError
from divulge.metrics import face_model
from divulge.metrics.face_model import embeddings, installed
from divulge.metrics.recognition import named

needed = pytest.mark.skipif(not installed(), reason="needs the recognizer extra")


@needed
def test_people_it_never_saw_are_told_apart():
    faces = load("orl")
    first = torch.tensor([int((faces.targets == person).nonzero()[0]) for person in range(6)])
    drawn, known = embeddings(faces.inputs[first]), embeddings(faces.inputs[first + 1])
    assert drawn.shape == (6, 128)
    assert named(-torch.cdist(drawn, known), torch.arange(6), torch.arange(6)).top(1).value >= 0.8


@needed
def test_what_are_no_images_is_refused():
    with pytest.raises(BadInputError, match="gray or color images"):
        embeddings(torch.rand(3, 8))


def test_a_missing_model_names_its_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(face_model, "find_spec", lambda name: None if name == "dlib" else find(name))
    assert not installed()
    with pytest.raises(MissingExtraError, match="recognizer"):
        embeddings(torch.rand(1, 1, 8, 8))
