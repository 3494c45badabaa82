"""What the SDK's own model says, where the plugin rests on it."""

import json

import pytest

from compute_bridge_aws.sdk import Access, Operation, Sdk, _loader, service_model


def test_ec2_has_no_word_for_tdx():
    """The day that this fails, AWS sells trust domains: then the posture may be offered."""
    model = service_model("ec2")
    names = [*model.operation_names, *model.shape_names]
    enums = [word for name in model.shape_names for word in getattr(model.shape_for(name), "enum", ())]

    assert [word for word in [*names, *enums] if "tdx" in word.lower() or "trustdomain" in word.lower()] == []
    assert "TDX" not in json.dumps(model._service_description)
    assert "amd-sev-snp" in enums


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_is_one_of_its_service(operation: Operation):
    service, _ = operation.value

    assert operation.name_in_api in service_model(service).operation_names


def test_a_create_takes_a_token_and_confidential_options():
    shape = service_model("ec2").operation_model("RunInstances").input_shape

    assert {"ClientToken", "CpuOptions", "InstanceMarketOptions", "MetadataOptions"} <= set(shape.members)
    assert set(shape.members["CpuOptions"].members) >= {"AmdSevSnp"}


def test_another_session_leaves_the_shared_models_as_they_are():
    paths = [*_loader().search_paths]
    Sdk(Access("AKIAFAKEFAKEFAKEFAKE", "secret"))

    assert paths == _loader().search_paths
