"""What boto3 and the Python SDK must see of the control plane: runtimes, versions, endpoints, tags and policies.

Each function without an underscore is one scenario, named on the command line by a test in `tests/it/clients/`."""

import json
import sys
import time
import uuid

import botocore
import botocore.session
from botocore.config import Config

from boto3_client import ARN, ask, client, equal, raises, run

ROLE = "arn:aws:iam::123456789012:role/agent"
HOST = {"containerConfiguration": {"containerUri": "host"}}
DEADLINE = 60


def _control(**arguments):
    return client("bedrock-agentcore-control", **arguments)


def _create(aws, name, artifact=HOST, **more):
    return aws.create_agent_runtime(
        agentRuntimeName=name,
        agentRuntimeArtifact=artifact,
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        **more,
    )


def _update(aws, runtime_id, artifact=HOST, **more):
    return aws.update_agent_runtime(
        agentRuntimeId=runtime_id,
        agentRuntimeArtifact=artifact,
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
        **more,
    )


def _settled(get):
    """Asks until nothing goes on any more."""
    deadline = time.time() + DEADLINE
    while True:
        answer = get()
        if not answer["status"].endswith("ING"):
            return answer
        assert time.time() < deadline, answer
        time.sleep(0.05)


def _runtime(aws, runtime_id, **more):
    return _settled(lambda: aws.get_agent_runtime(agentRuntimeId=runtime_id, **more))


def _endpoint(aws, runtime_id, name):
    return _settled(lambda: aws.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName=name))


def _gone(aws, get):
    deadline = time.time() + DEADLINE
    while True:
        try:
            answer = get()
        except aws.exceptions.ResourceNotFoundException:
            return
        assert answer["status"] == "DELETING", answer
        assert time.time() < deadline, answer
        time.sleep(0.05)


def whole_life():
    aws = _control()
    made = _create(
        aws,
        "whole_life",
        description="first",
        environmentVariables={"COLOR": "green"},
        lifecycleConfiguration={"maxLifetime": 600},
        requestHeaderConfiguration={"requestHeaderAllowlist": ["X-Tenant"]},
        protocolConfiguration={"serverProtocol": "HTTP", "port": 8081},
        allowedPorts=[{"port": 9000}, {"portRange": {"from": 9100, "to": 9200}}],
        filesystemConfigurations=[{"sessionStorage": {"mountPath": "/mnt/data"}}],
        tags={"team": "blue"},
    )
    equal(made["ResponseMetadata"]["HTTPStatusCode"], 202)
    equal((made["status"], made["agentRuntimeVersion"]), ("CREATING", "1"))
    runtime_id, arn = made["agentRuntimeId"], made["agentRuntimeArn"]
    assert runtime_id.startswith("whole_life-") and arn.endswith(f":runtime/{runtime_id}"), made
    identity = made["workloadIdentityDetails"]["workloadIdentityArn"]
    assert identity.endswith(f":workload-identity-directory/default/workload-identity/{runtime_id}"), identity
    first = _runtime(aws, runtime_id)
    equal(first["status"], "READY")
    equal(first["agentRuntimeArtifact"], HOST)
    equal(first["roleArn"], ROLE)
    equal(first["description"], "first")
    equal(first["networkConfiguration"], {"networkMode": "PUBLIC"})
    equal(first["environmentVariables"], {"COLOR": "green"})
    equal(first["lifecycleConfiguration"], {"idleRuntimeSessionTimeout": 600, "maxLifetime": 600})
    equal(first["requestHeaderConfiguration"], {"requestHeaderAllowlist": ["X-Tenant"]})
    equal(first["protocolConfiguration"], {"serverProtocol": "HTTP", "port": 8081})
    equal(first["allowedPorts"], [{"port": 9000}, {"portRange": {"from": 9100, "to": 9200}}])
    equal(first["filesystemConfigurations"], [{"sessionStorage": {"mountPath": "/mnt/data"}}])
    equal(first["metadataConfiguration"], {"requireMMDSV2": True})
    equal(first["platformVersion"], "V1")
    equal(first["workloadIdentityDetails"]["workloadIdentityArn"], identity)
    assert "tags" not in first and "failureReason" not in first, first
    equal(_endpoint(aws, runtime_id, "DEFAULT")["liveVersion"], "1")

    # An update replaces everything; what it does not name is cleared.
    pinned = aws.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="prod", description="pinned")
    equal((pinned["status"], pinned["targetVersion"], pinned["endpointName"]), ("CREATING", "1", "prod"))
    endpoint = _endpoint(aws, runtime_id, "prod")
    equal((endpoint["status"], endpoint["liveVersion"], endpoint["description"]), ("READY", "1", "pinned"))
    equal(endpoint["agentRuntimeEndpointArn"], pinned["agentRuntimeEndpointArn"])
    changed = _update(aws, runtime_id, environmentVariables={"COLOR": "red"}, platformVersion="V2")
    equal((changed["status"], changed["agentRuntimeVersion"]), ("UPDATING", "2"))
    equal(changed["createdAt"], first["createdAt"])
    second = _runtime(aws, runtime_id)
    equal((second["status"], second["agentRuntimeVersion"]), ("READY", "2"))
    equal(second["environmentVariables"], {"COLOR": "red"})
    equal(second["lifecycleConfiguration"], {"idleRuntimeSessionTimeout": 900, "maxLifetime": 28800})
    for name in ("description", "requestHeaderConfiguration", "allowedPorts", "filesystemConfigurations"):
        assert name not in second, second
    _update(aws, runtime_id)
    equal(_runtime(aws, runtime_id)["platformVersion"], "V2")
    old = aws.get_agent_runtime(agentRuntimeId=runtime_id, agentRuntimeVersion="1")
    equal((old["environmentVariables"], old["description"]), ({"COLOR": "green"}, "first"))
    listed = aws.list_agent_runtime_versions(agentRuntimeId=runtime_id)["agentRuntimes"]
    equal([item["agentRuntimeVersion"] for item in listed], ["3", "2", "1"])
    equal([item["description"] for item in listed], ["", "", "first"])
    equal(_endpoint(aws, runtime_id, "DEFAULT")["liveVersion"], "3")
    equal(_endpoint(aws, runtime_id, "prod")["liveVersion"], "1")

    # Calls go to the version of their endpoint.
    equal(run("echo -n $COLOR", agentRuntimeArn=arn, qualifier="prod").stdout, "green")
    session = str(uuid.uuid4())
    equal(run("echo -n $COLOR; echo kept > /mnt/workspace/f", session, agentRuntimeArn=arn).stdout, "")
    _update(aws, runtime_id, environmentVariables={"COLOR": "blue"})
    _runtime(aws, runtime_id)
    equal(run("echo -n $COLOR", session, agentRuntimeArn=arn).stdout, "")
    client().stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
    equal(run("echo -n $COLOR; cat /mnt/workspace/f", session, agentRuntimeArn=arn).stdout, "bluekept\n")

    # Endpoints move on request, versions go when nothing points to them.
    conflict = "ConflictException"
    raises(conflict, lambda: aws.delete_agent_runtime(agentRuntimeId=runtime_id, agentRuntimeVersion="1"))
    raises(conflict, lambda: aws.delete_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="DEFAULT"))
    raises(conflict, lambda: aws.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="prod"))
    moved = aws.update_agent_runtime_endpoint(
        agentRuntimeId=runtime_id, endpointName="prod", agentRuntimeVersion="2"
    )
    equal((moved["status"], moved["liveVersion"], moved["targetVersion"]), ("UPDATING", "1", "2"))
    endpoint = _endpoint(aws, runtime_id, "prod")
    equal((endpoint["liveVersion"], endpoint["targetVersion"], endpoint["description"]), ("2", "2", "pinned"))
    client().stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session)
    deleted = aws.delete_agent_runtime(agentRuntimeId=runtime_id, agentRuntimeVersion="3")
    equal((deleted["status"], deleted["agentRuntimeVersion"]), ("DELETING", "3"))
    missing = lambda: aws.get_agent_runtime(agentRuntimeId=runtime_id, agentRuntimeVersion="3")
    raises("ResourceNotFoundException", missing, status=404)
    listed = aws.list_agent_runtime_endpoints(agentRuntimeId=runtime_id)["runtimeEndpoints"]
    equal([item["name"] for item in listed], ["prod", "DEFAULT"])

    tags_and_policies(aws, arn, pinned["agentRuntimeEndpointArn"])

    gone = aws.delete_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="prod")
    equal((gone["status"], gone["endpointName"]), ("DELETING", "prod"))
    _gone(aws, lambda: aws.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="prod"))
    equal(aws.delete_agent_runtime(agentRuntimeId=runtime_id)["status"], "DELETING")
    _gone(aws, lambda: aws.get_agent_runtime(agentRuntimeId=runtime_id))
    raises("ResourceNotFoundException", lambda: run("true", agentRuntimeArn=arn))
    equal([item["agentRuntimeName"] for item in aws.list_agent_runtimes()["agentRuntimes"]], ["default"])
    # The name is free again, and nothing of the first one is left.
    again = _create(aws, "whole_life")
    assert again["agentRuntimeId"] != runtime_id
    equal(aws.list_tags_for_resource(resourceArn=again["agentRuntimeArn"])["tags"], {})


def tags_and_policies(aws, arn, endpoint_arn):
    equal(aws.list_tags_for_resource(resourceArn=arn)["tags"], {"team": "blue"})
    aws.tag_resource(resourceArn=arn, tags={"team": "red", "a b": "c:d/e=f+g@h"})
    equal(aws.list_tags_for_resource(resourceArn=arn)["tags"], {"team": "red", "a b": "c:d/e=f+g@h"})
    aws.untag_resource(resourceArn=arn, tagKeys=["a b", "never"])
    equal(aws.list_tags_for_resource(resourceArn=arn)["tags"], {"team": "red"})
    equal(aws.list_tags_for_resource(resourceArn=endpoint_arn)["tags"], {})
    aws.tag_resource(resourceArn=arn, tags={f"k{number}": "v" for number in range(49)})
    more = lambda: aws.tag_resource(resourceArn=arn, tags={"one": "more"})
    raises("ServiceQuotaExceededException", more, status=402)
    for missing in (arn + "x", arn.replace("runtime/", "gateway/")):
        raises("ResourceNotFoundException", lambda: aws.list_tags_for_resource(resourceArn=missing), status=404)

    def policy(resource):
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
            "Action": "bedrock-agentcore:InvokeAgentRuntime",
            "Resource": resource,
        }
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    for resource in (arn, endpoint_arn):
        assert "policy" not in aws.get_resource_policy(resourceArn=resource)
        raises("ResourceNotFoundException", lambda: aws.delete_resource_policy(resourceArn=resource), status=404)
        put = aws.put_resource_policy(resourceArn=resource, policy=policy(resource))
        equal((put["ResponseMetadata"]["HTTPStatusCode"], put["policy"]), (201, policy(resource)))
        equal(aws.get_resource_policy(resourceArn=resource)["policy"], policy(resource))
        for bad in (policy("*"), policy(resource + "/x"), "{}", "x"):
            wrong = lambda: aws.put_resource_policy(resourceArn=resource, policy=bad)
            raises("ValidationException", wrong, status=400)
        aws.delete_resource_policy(resourceArn=resource)
        assert "policy" not in aws.get_resource_policy(resourceArn=resource)
    aws.put_resource_policy(resourceArn=arn, policy=policy(arn))


def tokens():
    aws = _control()
    token = str(uuid.uuid4())
    first = _create(aws, "tokens", clientToken=token)
    again = _create(aws, "tokens", clientToken=token)
    for answer in (first, again):
        del answer["ResponseMetadata"]
    equal(again, first)
    error = raises("ValidationException", lambda: _create(aws, "others", clientToken=token), status=400)
    equal(error.response["reason"], "IdempotentParameterMismatchException")
    raises("ConflictException", lambda: _create(aws, "tokens"), status=409)
    runtime_id = first["agentRuntimeId"]
    _runtime(aws, runtime_id)
    token = str(uuid.uuid4())
    equal(_update(aws, runtime_id, clientToken=token)["agentRuntimeVersion"], "2")
    ask("kill-server")
    equal(_update(aws, runtime_id, clientToken=token)["agentRuntimeVersion"], "2")
    equal(_runtime(aws, runtime_id)["agentRuntimeVersion"], "2")
    token = str(uuid.uuid4())
    for _ in range(2):
        aws.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="prod", clientToken=token)
    _endpoint(aws, runtime_id, "prod")
    token = str(uuid.uuid4())
    equal(aws.delete_agent_runtime(agentRuntimeId=runtime_id, clientToken=token)["status"], "DELETING")
    _gone(aws, lambda: aws.get_agent_runtime(agentRuntimeId=runtime_id))
    equal(aws.delete_agent_runtime(agentRuntimeId=runtime_id, clientToken=token)["status"], "DELETING")
    raises("ResourceNotFoundException", lambda: aws.delete_agent_runtime(agentRuntimeId=runtime_id))


def pages():
    aws = _control()
    names = [f"page_{number}" for number in range(7)]
    for name in names:
        _create(aws, name)
    for size in (1, 3, 100):
        seen = []
        pager = aws.get_paginator("list_agent_runtimes")
        for page in pager.paginate(PaginationConfig={"PageSize": size}):
            assert len(page["agentRuntimes"]) <= size
            seen += [item["agentRuntimeName"] for item in page["agentRuntimes"]]
        equal(sorted(seen), sorted(names + ["default"]))
        equal(seen[-1], "default")
    # What is deleted between two pages does not end the list.
    page = aws.list_agent_runtimes(maxResults=2)
    for item in page["agentRuntimes"]:
        _runtime(aws, item["agentRuntimeId"])
        aws.delete_agent_runtime(agentRuntimeId=item["agentRuntimeId"])
        _gone(aws, lambda: aws.get_agent_runtime(agentRuntimeId=item["agentRuntimeId"]))
    rest = aws.list_agent_runtimes(maxResults=100, nextToken=page["nextToken"])
    equal(len(rest["agentRuntimes"]), 6)
    runtime_id = rest["agentRuntimes"][0]["agentRuntimeId"]
    _runtime(aws, runtime_id)
    for number in range(9):
        aws.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name=f"e{number}")
    tenth = lambda: aws.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="e9")
    raises("ServiceQuotaExceededException", tenth, status=402)
    pager = aws.get_paginator("list_agent_runtime_endpoints")
    found = [
        item["name"]
        for page in pager.paginate(agentRuntimeId=runtime_id, PaginationConfig={"PageSize": 4})
        for item in page["runtimeEndpoints"]
    ]
    equal(sorted(found), ["DEFAULT"] + [f"e{number}" for number in range(9)])


def failures():
    aws = _control()
    bad = {"containerConfiguration": {"containerUri": "dir:/nowhere/at/all"}}
    runtime_id = _create(aws, "failures", artifact=bad)["agentRuntimeId"]
    failed = _runtime(aws, runtime_id)
    equal(failed["status"], "CREATE_FAILED")
    assert failed["failureReason"], failed
    equal(_endpoint(aws, runtime_id, "DEFAULT")["status"], "CREATE_FAILED")
    call = lambda: run("true", agentRuntimeArn=failed["agentRuntimeArn"])
    raises("ValidationException", call, status=400)
    _update(aws, runtime_id)
    equal(_runtime(aws, runtime_id)["status"], "READY")
    equal(_endpoint(aws, runtime_id, "DEFAULT")["liveVersion"], "2")
    _update(aws, runtime_id, artifact=bad)
    failed = _runtime(aws, runtime_id)
    equal((failed["status"], failed["agentRuntimeVersion"]), ("UPDATE_FAILED", "3"))
    default = _endpoint(aws, runtime_id, "DEFAULT")
    equal((default["status"], default["liveVersion"]), ("READY", "2"))
    equal(run("echo -n fine", agentRuntimeArn=failed["agentRuntimeArn"]).stdout, "fine")
    point = lambda version: aws.create_agent_runtime_endpoint(
        agentRuntimeId=runtime_id, name="bad", agentRuntimeVersion=version
    )
    raises("ConflictException", lambda: point("3"))
    raises("ResourceNotFoundException", lambda: point("9"))
    aws.delete_agent_runtime(agentRuntimeId=runtime_id, agentRuntimeVersion="3")
    latest = _runtime(aws, runtime_id)
    equal((latest["status"], latest["agentRuntimeVersion"]), ("READY", "2"))
    # Numbers are never used again.
    equal(_update(aws, runtime_id)["agentRuntimeVersion"], "4")
    declared = ARN.split("/")[1]
    for change in (lambda: _update(aws, declared), lambda: aws.delete_agent_runtime(agentRuntimeId=declared)):
        error = raises("ConflictException", change, status=409)
        assert "declared in the configuration" in str(error), error


def helpers():
    from bedrock_agentcore.runtime.agent_core_runtime_client import AgentCoreRuntimeClient
    from bedrock_agentcore._utils.config import WaitConfig

    sdk = AgentCoreRuntimeClient(region="us-west-2")
    wait = WaitConfig(max_wait=60, poll_interval=1)
    common = dict(
        agentRuntimeArtifact=HOST, roleArn=ROLE, networkConfiguration={"networkMode": "PUBLIC"}, wait_config=wait
    )
    made = sdk.create_agent_runtime_and_wait(agentRuntimeName="helpers", **common)
    equal(made["status"], "READY")
    runtime_id = made["agentRuntimeId"]
    updated = sdk.update_agent_runtime_and_wait(agentRuntimeId=runtime_id, **common)
    equal(updated["agentRuntimeVersion"], "2")
    endpoint = sdk.create_agent_runtime_endpoint_and_wait(
        agentRuntimeId=runtime_id, name="prod", agentRuntimeVersion="1", wait_config=wait
    )
    equal((endpoint["status"], endpoint["liveVersion"]), ("READY", "1"))
    endpoint = sdk.update_agent_runtime_endpoint_and_wait(
        agentRuntimeId=runtime_id, endpointName="prod", agentRuntimeVersion="2", wait_config=wait
    )
    equal(endpoint["status"], "READY")
    status = sdk.get_aggregated_status(runtime_id, "prod")
    assert "READY" in json.dumps(status, default=str), status
    bad = {"containerConfiguration": {"containerUri": "dir:/nowhere/at/all"}}
    try:
        sdk.create_agent_runtime_and_wait(agentRuntimeName="broken", **{**common, "agentRuntimeArtifact": bad})
        raise AssertionError("a broken runtime became ready")
    except RuntimeError as error:
        assert "CREATE_FAILED" in str(error) or "image folder" in str(error), error
    sdk.delete_agent_runtime_and_wait(agentRuntimeId=runtime_id, wait_config=wait)


def killed_server():
    """The server dies at once after it accepted each change; the change is finished by the next one."""
    aws = _control()
    for number in range(3):
        runtime_id = _create(aws, f"killed_{number}")["agentRuntimeId"]
        ask("kill-server")
        equal(_runtime(aws, runtime_id)["status"], "READY")
        arn = aws.get_agent_runtime(agentRuntimeId=runtime_id)["agentRuntimeArn"]
        _update(aws, runtime_id)
        ask("kill-server")
        equal(_runtime(aws, runtime_id)["agentRuntimeVersion"], "2")
        equal(_endpoint(aws, runtime_id, "DEFAULT")["liveVersion"], "2")
        aws.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="prod")
        ask("kill-server")
        equal(_endpoint(aws, runtime_id, "prod")["status"], "READY")
        for qualifier in ("prod", "DEFAULT"):
            run("sleep 1000 & echo > /mnt/workspace/f", agentRuntimeArn=arn, qualifier=qualifier)
        aws.delete_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="prod")
        ask("kill-server")
        _gone(aws, lambda: aws.get_agent_runtime_endpoint(agentRuntimeId=runtime_id, endpointName="prod"))
        aws.delete_agent_runtime(agentRuntimeId=runtime_id)
        ask("kill-server")
        _gone(aws, lambda: aws.get_agent_runtime(agentRuntimeId=runtime_id))
        raises("ResourceNotFoundException", lambda: run("true", agentRuntimeArn=arn))


# What a value of a shape may look like where its pattern asks for more than letters.
_SAMPLES = {
    "agentRuntimeName": "sample",
    "roleArn": ROLE,
    "containerUri": "host",
    "mountPath": "/mnt/sample",
    "path": "/sample",
    "clientToken": "c" * 33,
    "discoveryUrl": "https://example.com/.well-known/openid-configuration",
    "subnets": "subnet-00000000",
    "securityGroups": "sg-00000000",
    "platformVersion": "V1",
    "name": "sample",
    "bucket": "sample",
    "policy": "{}",
}


def _sample(shape, name):
    if shape.type_name == "structure":
        names = shape.required_members
        if getattr(shape, "is_tagged_union", False):
            names = [min(shape.members, key=lambda member: member != "containerConfiguration")]
        return {member: _sample(shape.members[member], member) for member in names}
    if shape.type_name == "list":
        return [_sample(shape.member, name)] * max(1, shape.metadata.get("min", 0))
    if shape.type_name == "map":
        return {"sample": _sample(shape.value, name)}
    if shape.type_name == "boolean":
        return True
    if shape.type_name in ("integer", "long"):
        return shape.metadata.get("min", 9000)
    return _SAMPLES.get(name) or (shape.enum or ["a" * max(1, shape.metadata.get("min", 1))])[0]


def _edges(shape, name):
    """Values at the edges of every constraint of a shape, and the rule that each breaks, if any."""
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if shape.type_name in ("integer", "long"):
        for bound, step, word in ((low, -1, "greater"), (high, 1, "less")):
            if bound is not None:
                yield bound, None
                yield bound + step, f"value {word} than or equal to {bound}"
        return
    if shape.type_name == "string":
        make = lambda count: "a" * count
    elif shape.type_name == "list":
        make = lambda count: [_sample(shape.member, name)] * count
        for value, rule in _edges(shape.member, name):
            yield [value], rule
    elif shape.type_name == "map":
        make = lambda count: {f"k{number}": _sample(shape.value, name) for number in range(count)}
        for value, rule in _edges(shape.key, name):
            yield {value: _sample(shape.value, name)}, rule
        for value, rule in _edges(shape.value, name):
            yield {"sample": value}, rule
    elif shape.type_name == "structure":
        union = getattr(shape, "is_tagged_union", False)
        for member, of in shape.members.items():
            # What names the resource is filled in by the caller.
            rest = {} if union else {
                other: value
                for other, value in _sample(shape, name).items()
                if shape.members[other].serialization.get("location") != "uri"
            }
            for value, rule in _edges(of, member):
                yield {**rest, member: value}, rule
        return
    else:
        return
    if low:
        yield make(low), None
        yield make(low - 1), f"length greater than or equal to {low}"
    if high is not None:
        yield make(high), None
        yield make(high + 1), f"length less than or equal to {high}"


def limits():
    """Every length and range of botocore's own model, at its edges, past the checks that botocore makes itself."""
    unchecked = botocore.session.get_session().create_client(
        "bedrock-agentcore-control", config=Config(parameter_validation=False, retries={"max_attempts": 0})
    )
    aws = _control()
    runtime_id = _create(aws, "limits")["agentRuntimeId"]
    arn = _runtime(aws, runtime_id)["agentRuntimeArn"]
    aws.create_agent_runtime_endpoint(agentRuntimeId=runtime_id, name="prod")
    _endpoint(aws, runtime_id, "prod")
    places = {"agentRuntimeId": runtime_id, "endpointName": "prod", "resourceArn": arn}
    allowed, refused = [], []
    for name in unchecked.meta.service_model.operation_names:
        neighbors = ("Tag", "Untag", "ListTags", "PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy")
        if "CapacityProvider" in name or not ("AgentRuntime" in name or name.startswith(neighbors)):
            continue
        shape = unchecked.meta.service_model.operation_model(name).input_shape
        for value, rule in _edges(shape, name):
            value = {**{key: places[key] for key in places if key in shape.members}, **value}
            (refused if rule else allowed).append((name, value, rule))
    assert len(refused) > 150 and len(allowed) > 150, (len(refused), len(allowed))

    def call(name, value):
        try:
            getattr(unchecked, botocore.xform_name(name))(**value)
            return None
        except botocore.exceptions.ClientError as error:
            return error.response

    def state():
        runtimes = aws.list_agent_runtimes()["agentRuntimes"]
        endpoints = aws.list_agent_runtime_endpoints(agentRuntimeId=runtime_id)["runtimeEndpoints"]
        policy = aws.get_resource_policy(resourceArn=arn).get("policy")
        return runtimes, endpoints, policy, aws.list_tags_for_resource(resourceArn=arn)["tags"]

    before = state()
    for name, value, rule in refused:
        response = call(name, value)
        assert response and "reason" in response, (name, value, rule, response)
        equal(response["Error"]["Code"], "ValidationException")
        equal(response["ResponseMetadata"]["HTTPStatusCode"], 400)
        assert f"Member must have {rule}" in response["Error"]["Message"], (name, value, rule, response)
        assert response["reason"] == "FieldValidationFailed" and response["fieldList"], response
    equal(state(), before)
    accepted = 0
    for number, (name, value, _) in enumerate(allowed):
        if name == "CreateAgentRuntime":
            value["agentRuntimeName"] = f"limits_{number}"
        if name.startswith("Update"):
            _runtime(aws, runtime_id)
            _endpoint(aws, runtime_id, "prod")
        if name.startswith("Delete"):
            continue
        response = call(name, value)
        accepted += response is None
        if response and response["Error"]["Code"] == "ValidationException":
            # Another rule may refuse it: a pattern, or one that the model does not say.
            assert response["fieldList"], (name, value, response)
        elif response:
            code = response["Error"]["Code"]
            expected = ("ConflictException", "ResourceNotFoundException", "ServiceQuotaExceededException")
            assert code in expected, (name, value, response)
    assert accepted > 60, accepted


if __name__ == "__main__":
    {name: value for name, value in globals().items() if callable(value)}[sys.argv[1]]()
