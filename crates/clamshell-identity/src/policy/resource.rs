//! What the service demands of a policy that is put on a resource of its own.

use thiserror::Error;

use super::{
    document::{Document, DocumentKind},
    parse::ParseError,
    principal::Named,
};

/// Why a policy cannot be put on a resource.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResourcePolicyError {
    /// Not a policy document.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// `Resource` is a pattern or another ARN. `*` is refused too.
    #[error(
        "Statement[{statement}]: Resource must be the exact ARN of the resource the policy is attached to"
    )]
    Resource {
        /// Number of the statement, from 0.
        statement: usize,
    },
    /// `NotResource` cannot be the exact ARN.
    #[error("Statement[{statement}]: NotResource is not allowed in a resource policy")]
    NotResource {
        /// Number of the statement, from 0.
        statement: usize,
    },
    /// An action of another service.
    #[error("Statement[{statement}]: actions must be those of bedrock-agentcore")]
    Action {
        /// Number of the statement, from 0.
        statement: usize,
    },
    /// Callers with a JWT have no identity of IAM, so only `*` can mean them.
    #[error("Statement[{statement}]: Principal must be * for a runtime with a JWT authorizer")]
    Principal {
        /// Number of the statement, from 0.
        statement: usize,
    },
}

/// Parses a policy that is to be attached to the resource `arn`. `jwt`: callers of this resource
/// authenticate with a JWT.
///
/// # Errors
/// [`ResourcePolicyError`], which names the statement.
pub fn parse_resource_policy(text: &str, arn: &str, jwt: bool) -> Result<Document, ResourcePolicyError> {
    let document = Document::parse(DocumentKind::Resource, text)?;
    for (statement, parsed) in document.statements.iter().enumerate() {
        match &parsed.resources {
            Some(resources) if resources.negated => {
                return Err(ResourcePolicyError::NotResource { statement });
            }
            Some(resources) if resources.entries.iter().all(|pattern| pattern.text == arn) => {}
            _ => return Err(ResourcePolicyError::Resource { statement }),
        }
        let own = |action: &String| action == "*" || action.starts_with("bedrock-agentcore:");
        if !parsed.actions.entries.iter().all(own) {
            return Err(ResourcePolicyError::Action { statement });
        }
        let anyone = parsed.principals.as_ref().is_some_and(|principals| {
            !principals.negated && principals.entries.iter().all(|named| *named == Named::Anyone)
        });
        if jwt && !anyone {
            return Err(ResourcePolicyError::Principal { statement });
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_service() {
        const ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:111122223333:runtime/demo-AbCdE12345";
        let check = |members: &str, jwt: bool, expect: Option<ResourcePolicyError>| {
            let text = format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Principal":"*","Action":"*","Resource":"{ARN}"}},{{{members}}}]}}"#
            );
            assert_eq!(parse_resource_policy(&text, ARN, jwt).err(), expect, "{members}");
        };
        let statement = |principal: &str, action: &str, resource: &str| {
            format!(r#""Effect":"Allow","Principal":{principal},"Action":"{action}",{resource}"#)
        };
        let own = format!(r#""Resource":["{ARN}"]"#);
        let invoke = "bedrock-agentcore:InvokeAgentRuntime";
        check(&statement("\"*\"", invoke, &own), true, None);
        check(&statement(r#"{"AWS":"*"}"#, invoke, &own), true, None);
        check(&statement(r#"{"AWS":"111122223333"}"#, "bedrock-agentcore:*", &own), false, None);
        check(
            &statement(r#"{"AWS":"111122223333"}"#, invoke, &own),
            true,
            Some(ResourcePolicyError::Principal { statement: 1 }),
        );
        let refused = Some(ResourcePolicyError::Resource { statement: 1 });
        check(&statement("\"*\"", invoke, r#""Resource":"*""#), false, refused.clone());
        check(&statement("\"*\"", invoke, &format!(r#""Resource":["{ARN}","*"]"#)), false, refused.clone());
        check(&statement("\"*\"", invoke, &format!(r#""Resource":"{ARN}/*""#)), false, refused);
        check(
            &statement("\"*\"", invoke, &format!(r#""NotResource":"{ARN}""#)),
            false,
            Some(ResourcePolicyError::NotResource { statement: 1 }),
        );
        check(
            &statement("\"*\"", "s3:GetObject", &own),
            false,
            Some(ResourcePolicyError::Action { statement: 1 }),
        );
        assert!(matches!(parse_resource_policy("{}", ARN, false), Err(ResourcePolicyError::Parse(_))));
    }
}
