//! ARNs of runtimes and their endpoints. Strict: what the first-party SDKs refuse, this refuses.

use std::fmt;

use thiserror::Error;

/// Partitions that exist.
const PARTITIONS: [&str; 3] = ["aws", "aws-cn", "aws-us-gov"];
const SERVICE: &str = "bedrock-agentcore";
/// Longest ARN looked at: the model's bound of a taggable ARN is 1011.
const ARN_BYTES_MAX: usize = 1011;

/// `arn:<partition>:bedrock-agentcore:<region>:<account>:runtime/<id>[/runtime-endpoint/<name>]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuntimeArn {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// Region, for instance `us-west-2`.
    pub region: String,
    /// 12 digits.
    pub account_id: String,
    /// Name, hyphen, ten alphanumerics.
    pub runtime_id: String,
    /// Name of the endpoint, in the ARN of an endpoint.
    pub endpoint: Option<String>,
}

/// Why a text is not the ARN of a runtime. The text is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ArnError {
    /// Longer than any ARN may be.
    #[error("the ARN is too long")]
    TooLong,
    /// Not six parts with `arn` first.
    #[error("an ARN has six parts and starts with arn:")]
    Parts,
    /// A partition that does not exist.
    #[error("the partition of the ARN is not known")]
    Partition,
    /// Another service.
    #[error("the service of the ARN must be bedrock-agentcore")]
    Service,
    /// Not a region name.
    #[error("the region of the ARN is not valid")]
    Region,
    /// Not twelve digits.
    #[error("the account of the ARN must be 12 digits")]
    Account,
    /// Not `runtime/<id>` or `runtime/<id>/runtime-endpoint/<name>`.
    #[error("the resource of the ARN must be runtime/<id> or runtime/<id>/runtime-endpoint/<name>")]
    Resource,
}

impl RuntimeArn {
    /// Parses the decoded text of an ARN.
    ///
    /// # Errors
    /// [`ArnError`] that names the part at fault.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        if text.len() > ARN_BYTES_MAX {
            return Err(ArnError::TooLong);
        }
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(ArnError::Parts);
        let (prefix, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        if prefix != "arn" || parts.next().is_some() {
            return Err(ArnError::Parts);
        }
        if !PARTITIONS.contains(&partition) {
            return Err(ArnError::Partition);
        }
        if service != SERVICE {
            return Err(ArnError::Service);
        }
        if !is_region(region) {
            return Err(ArnError::Region);
        }
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ArnError::Account);
        }
        let (runtime_id, endpoint) = parse_resource(resource).ok_or(ArnError::Resource)?;
        Ok(Self {
            partition: partition.to_owned(),
            region: region.to_owned(),
            account_id: account.to_owned(),
            runtime_id: runtime_id.to_owned(),
            endpoint: endpoint.map(str::to_owned),
        })
    }

    /// The ARN of this runtime without an endpoint.
    #[must_use]
    pub fn runtime(&self) -> Self {
        Self { endpoint: None, ..self.clone() }
    }

    /// The ARN of an endpoint of this runtime.
    #[must_use]
    pub fn with_endpoint(&self, name: impl Into<String>) -> Self {
        Self { endpoint: Some(name.into()), ..self.clone() }
    }
}

impl fmt::Display for RuntimeArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, region, account_id, runtime_id, endpoint } = self;
        write!(f, "arn:{partition}:{SERVICE}:{region}:{account_id}:runtime/{runtime_id}")?;
        endpoint.as_ref().map_or(Ok(()), |name| write!(f, "/runtime-endpoint/{name}"))
    }
}

fn parse_resource(resource: &str) -> Option<(&str, Option<&str>)> {
    let rest = resource.strip_prefix("runtime/")?;
    let (id, endpoint) = match rest.split_once('/') {
        None => (rest, None),
        Some((id, tail)) => (id, Some(tail.strip_prefix("runtime-endpoint/")?)),
    };
    let (name, suffix) = id.rsplit_once('-')?;
    let id_ok =
        is_name(name, 100) && suffix.len() == 10 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (id_ok && endpoint.is_none_or(|name| is_name(name, 48))).then_some((id, endpoint))
}

fn is_name(text: &str, max: usize) -> bool {
    let mut bytes = text.bytes();
    text.len() <= max
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_region(text: &str) -> bool {
    (3..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUNTIME: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345";

    #[test]
    fn parses_runtime_and_endpoint() {
        let arn = RuntimeArn::parse(RUNTIME).unwrap();
        let expect = RuntimeArn {
            partition: "aws".into(),
            region: "us-west-2".into(),
            account_id: "123456789012".into(),
            runtime_id: "demo-AbCdE12345".into(),
            endpoint: None,
        };
        assert_eq!(arn, expect);
        assert_eq!(arn.to_string(), RUNTIME);
        let endpoint = arn.with_endpoint("prod");
        assert_eq!(endpoint.to_string(), format!("{RUNTIME}/runtime-endpoint/prod"));
        assert_eq!(RuntimeArn::parse(&endpoint.to_string()).unwrap(), endpoint);
        assert_eq!(endpoint.runtime(), arn);
        for partition in ["aws-cn", "aws-us-gov"] {
            let text = RUNTIME.replacen("aws", partition, 1);
            assert_eq!(RuntimeArn::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses() {
        let table = [
            ("", ArnError::Parts),
            ("demo-AbCdE12345", ArnError::Parts),
            ("ARN:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345", ArnError::Parts),
            ("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345:1", ArnError::Parts),
            ("arn:aws-x:bedrock-agentcore:us-west-2:123456789012:runtime/d-AbCdE12345", ArnError::Partition),
            ("arn:aws:bedrock:us-west-2:123456789012:runtime/demo-AbCdE12345", ArnError::Service),
            ("arn:aws:bedrock-agentcore:US:123456789012:runtime/demo-AbCdE12345", ArnError::Region),
            ("arn:aws:bedrock-agentcore::123456789012:runtime/demo-AbCdE12345", ArnError::Region),
            ("arn:aws:bedrock-agentcore:us-west-2:12345678901:runtime/demo-AbCdE12345", ArnError::Account),
            ("arn:aws:bedrock-agentcore:us-west-2:12345678901a:runtime/demo-AbCdE12345", ArnError::Account),
            ("arn:aws:bedrock-agentcore:us-west-2:123456789012:gateway/demo-AbCdE12345", ArnError::Resource),
            ("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo", ArnError::Resource),
            ("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/../x-AbCdE12345", ArnError::Resource),
            ("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/d-AbCdE12345/", ArnError::Resource),
            (
                "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/d-AbCdE12345/runtime-endpoint/",
                ArnError::Resource,
            ),
        ];
        for (text, error) in table {
            assert_eq!(RuntimeArn::parse(text), Err(error), "{text}");
        }
        assert_eq!(RuntimeArn::parse(&"a".repeat(2000)), Err(ArnError::TooLong));
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_display_undoes_it(text in "(arn:aws:bedrock-agentcore:|.{0,9})[a-z0-9:/-]{0,60}") {
            if let Ok(arn) = RuntimeArn::parse(&text) {
                prop_assert_eq!(arn.to_string(), text);
            }
        }
    }
}
