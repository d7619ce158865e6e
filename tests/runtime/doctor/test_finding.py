from pumpseg.doctor.finding import FAULT, Finding


def test_what_is_empty_is_left_out_of_the_json():
    assert Finding("a", FAULT, "b").to_json() == {"topic": "a", "status": "fault", "text": "b"}
    assert Finding("a", FAULT, "b", "c").to_json()["mend"] == "c"
