"""The least that the bridge's identity has to be allowed, as an IAM policy, made from the table."""

from collections.abc import Iterator
from typing import Any, Final

from compute_bridge.cloud.tags import OWNER
from compute_bridge_aws.config import AwsConfig

READS: Final = (
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeRegions",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSpotInstanceRequests",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeSubnets",
    "pricing:GetProducts",
    "servicequotas:ListServiceQuotas",
    "sts:GetCallerIdentity",
)
_USE_KEY = ("kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*")
_LEND_KEY = "kms:CreateGrant"
KEY_ACTIONS: Final = (*_USE_KEY, _LEND_KEY)
"""What EC2 does with a key of the table, in the name of who starts the machine."""
_METRICS = "cloudwatch:GetMetricData"
_MADE = ("instance", "volume", "network-interface")


def policy(config: AwsConfig) -> dict[str, Any]:
    """Return the policy document for the identity of this table.

    Whatever is made must carry the owner's tag as it is made, and only what carries it may be ended or changed.
    """
    return {"Version": "2012-10-17", "Statement": [*_statements(config)]}


def _statements(config: AwsConfig) -> Iterator[dict[str, Any]]:
    reads = [*READS, *([_METRICS] if config.metrics else [])]
    yield {"Sid": "Read", "Effect": "Allow", "Action": sorted(reads), "Resource": "*"}
    yield from _launching(config)
    yield from _groups(config)
    yield {
        "Sid": "EndOwn",
        "Effect": "Allow",
        "Action": "ec2:TerminateInstances",
        "Resource": f"arn:aws:ec2:*:{config.account_id}:instance/*",
        "Condition": _is_owned("aws:ResourceTag", config),
    }
    yield from _keys(config)
    yield {"Sid": "NoRoles", "Effect": "Deny", "Action": "iam:PassRole", "Resource": "*"}


def _is_owned(where: str, config: AwsConfig) -> dict[str, Any]:
    return {"StringEquals": {f"{where}/{OWNER}": config.owner}}


def _launching(config: AwsConfig) -> Iterator[dict[str, Any]]:
    account = config.account_id
    made = [*_MADE, *(["spot-instances-request"] if config.spot else [])]
    yield {
        "Sid": "RunTagged",
        "Effect": "Allow",
        "Action": "ec2:RunInstances",
        "Resource": [f"arn:aws:ec2:*:{account}:{kind}/*" for kind in made],
        "Condition": _is_owned("aws:RequestTag", config),
    }
    subnets = [
        f"arn:aws:ec2:{table.name}:{account}:subnet/{id_}"
        for table in config.regions
        for id_ in sorted(table.subnets.values())
    ]
    images = sorted(
        f"arn:aws:ec2:{table.name}::image/{id_}" for table in config.regions for id_ in table.images.values()
    )
    # Any group of the subnet's VPC: so that a dry run can tell whether the rest holds before there is a group of ours.
    groups = f"arn:aws:ec2:*:{account}:security-group/*"
    yield {"Sid": "RunFrom", "Effect": "Allow", "Action": "ec2:RunInstances", "Resource": [*images, *subnets, groups]}
    kinds = [*made, "security-group"]
    yield {
        "Sid": "TagAtBirth",
        "Effect": "Allow",
        "Action": "ec2:CreateTags",
        "Resource": [f"arn:aws:ec2:*:{account}:{kind}/*" for kind in kinds],
        "Condition": {"StringEquals": {"ec2:CreateAction": ["RunInstances", "CreateSecurityGroup"]}},
    }


def _groups(config: AwsConfig) -> Iterator[dict[str, Any]]:
    group = f"arn:aws:ec2:*:{config.account_id}:security-group/*"
    yield {
        "Sid": "MakeGroups",
        "Effect": "Allow",
        "Action": "ec2:CreateSecurityGroup",
        "Resource": group,
        "Condition": _is_owned("aws:RequestTag", config),
    }
    yield {
        "Sid": "MakeGroupsIn",
        "Effect": "Allow",
        "Action": "ec2:CreateSecurityGroup",
        "Resource": f"arn:aws:ec2:*:{config.account_id}:vpc/*",
    }
    yield {
        "Sid": "KeepOwnGroups",
        "Effect": "Allow",
        "Action": [
            "ec2:AuthorizeSecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress",
            "ec2:DeleteSecurityGroup",
            "ec2:RevokeSecurityGroupEgress",
            "ec2:RevokeSecurityGroupIngress",
        ],
        "Resource": group,
        "Condition": _is_owned("aws:ResourceTag", config),
    }


def _keys(config: AwsConfig) -> Iterator[dict[str, Any]]:
    if not config.kms_key.startswith("arn:"):
        return
    yield {
        "Sid": "EncryptDisks",
        "Effect": "Allow",
        "Action": [*_USE_KEY],
        "Resource": config.kms_key,
    }
    yield {
        "Sid": "LendTheKey",
        "Effect": "Allow",
        "Action": _LEND_KEY,
        "Resource": config.kms_key,
        "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
    }
