"""The version that made a ranking, from the ranking's id."""

from __future__ import annotations

from endcap.errors import UserError
from endcap.experiments.ranking_token import KEY, RankingToken, TokenSigner


def read_version(recommender: str, ranking: str) -> str:
    """Read the version out of a ranking's id. The environment has the keys that sign ids, if any do.

    Raises
    ------
    UserError
        If the id cannot be read, or no version made the ranking.
    """
    token = TokenSigner.from_environment(recommender).read(ranking)
    if not isinstance(token, RankingToken):
        reasons = {
            "no-token": "it is no ranking id of this release",
            "damaged": "it is cut short or changed",
            "forged": f"it is of another recommender, or signed with a key that {KEY} does not have",
        }
        raise UserError(
            f"ranking {ranking}: {reasons[token]}. Give the ranking_id of an answer of {recommender} as it came",
            code="lineage.ranking-unreadable",
            ranking=ranking,
            reason=token,
        )
    if not token.version:
        raise UserError(
            f"ranking {ranking}: no version made it, but the {token.answerer} list of the gateway. That list is "
            "of the deployed package: see `endcap status`",
            code="lineage.ranking-without-version",
            ranking=ranking,
            answerer=token.answerer,
        )
    return token.version
