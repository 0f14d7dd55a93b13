"""Container images that apps describe are kept as they are."""

from pathlib import Path

from streamapp import ContainerImage


def test_an_image_is_kept_with_its_options(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python")
    image = ContainerImage.from_dockerfile(tmp_path / "Dockerfile", build_args={"A": "1"})
    assert image == ContainerImage.from_dockerfile_str("FROM python", build_args={"A": "1"})
    assert (image.dockerfile, image.options) == ("FROM python", {"build_args": {"A": "1"}})
