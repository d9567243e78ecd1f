"""What counts as a claim, and what supports it."""

from analytics.evaluation.claims import Claim, ServiceNames, Sources, claims_of, unsupported_claims

SERVICES = ServiceNames(["a haircut", "water heater", "water heater repair"])


def claims(text: str) -> set[tuple[str, str]]:
    return {(claim.kind, " ".join(claim.words)) for claim in claims_of(text, SERVICES)}


def test_every_kind_of_claim():
    text = "Dana Whitfield wanted a water heater repair, booked for Tuesday, May 14th at 3:30 pm for $1,200."
    assert claims(text) == {
        ("name", "dana whitfield"),
        ("service", "water heater repair"),
        ("date", "tuesday"),
        ("date", "may"),
        ("number", "14"),
        ("number", "3:30"),
        ("number", "1200"),
    }


def test_what_is_no_claim():
    assert (
        claims("The caller had a question. They may call back. I'd say nothing in march.") == set()
    )


def test_first_words_of_sentences():
    assert claims("She met Smith. Jones left.") == {("name", "smith"), ("name", "jones")}
    assert claims("The Smiths called. Dana's dog barked.") == {("name", "smiths"), ("name", "dana")}


def test_support_comes_from_turns_and_facts():
    sources = Sources(
        [
            "Hi, this is Dana whitfeld, about my water heater.",
            "We can do the 14th, that is twenty five dollars.",
            "Dana Whitfield",
        ]
    )

    def unsupported(text: str) -> set[str]:
        return {" ".join(c.words) for c in unsupported_claims(claims_of(text, SERVICES), sources)}

    assert unsupported("Dana Whitfield pays $25 on the 14th.") == set()
    assert unsupported("Dana Wakefield pays $35 on Tuesday the 15th.") == {
        "dana wakefield",
        "35",
        "tuesday",
        "15",
    }
    assert unsupported("They need a water heater.") == set()
    assert unsupported("They need a water heater repair.") == {"water heater repair"}


def test_possessives_name_their_owner():
    sources = Sources(["Dana's water heater's out again."])
    assert sources.support(Claim("name", ("dana",)))
    assert sources.support(Claim("service", ("water", "heater")))
    assert sources.support(Claim("name", ("danas",)))


def test_a_service_does_not_run_across_turns():
    sources = Sources(["a water", "heater repair"])
    assert not sources.support(Claim("service", ("water", "heater")))
