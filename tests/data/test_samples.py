import pytest

from cnctl.data.members import Member
from cnctl.data.samples import group


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("0001.jpg", {}, ("0001", "image", "jpg")),
        ("a/0001.PNG", {}, ("a/0001", "image", "png")),
        ("0001.hint.png", {}, ("0001", "hint", "hint.png")),
        ("0001.txt", {}, ("0001", "prompt", "txt")),
        ("image/0001.jpg", {}, ("0001", "image", "jpg")),
        ("x/hint/0001.jpg", {}, ("x/0001", "hint", "jpg")),
        ("images/0001.hint.png", {}, ("0001", "hint", "hint.png")),
        ("captions/0001.txt", {}, ("0001", "prompt", "txt")),
        ("0001.hint.jpg", {}, ("0001", "", "hint.jpg")),
        ("0001.cls", {}, ("0001", "", "cls")),
        ("canny/0001.png", {}, ("canny/0001", "image", "png")),
        ("canny/0001.png", {"hint": "canny"}, ("0001", "hint", "png")),
        ("0001.canny.png", {"hint": "canny"}, ("0001", "hint", "canny.png")),
        ("0001.hint.jpg", {"hint": "hint.jpg"}, ("0001", "hint", "hint.jpg")),
        ("0001.hint.png", {"hint": "canny"}, ("0001", "", "hint.png")),
        ("hint/0001.png", {"hint": ""}, ("hint/0001", "", "png")),
        ("0001.txt", {"prompt": "json"}, ("0001", "", "txt")),
        ("./0001.jpg", {}, ("0001", "image", "jpg")),
        ("._0001.jpg", {}, ("._0001.jpg", "", "_0001.jpg")),
    ],
)
def test_the_place_of_a_member(name: str, given: dict[str, str], expected: tuple[str, ...]) -> None:
    (found,) = group([Member(name, 512, 1)], given)
    ((role, kinds),) = found.roles.items()
    assert (found.key, role, *kinds) == expected


def test_the_first_of_its_kind_is_read_and_the_others_are_known() -> None:
    names = ["0.png", "0.jpg", "0.json", "0.txt", "0.cls", "0.jpg"]
    members = [Member(name, 512 * number, 1) for number, name in enumerate(names)]
    (found,) = group(members, {})
    assert found.image is members[1]
    assert found.prompt is members[3]
    assert found.hint is None
    assert found.twice == ["jpg"]
    assert [kind for kind, _ in found.unread()] == ["png", "json", "cls"]
