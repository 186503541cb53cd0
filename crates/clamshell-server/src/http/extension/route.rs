//! The routes of the extension API: one table for the router, for `405` and for tests.

use clamshell_wire::route::RouteError;

macro_rules! routes {
    ($($name:ident $method:literal $path:literal,)*) => {
        /// A call of the extension API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ExtensionRoute {
            $(
                #[doc = concat!("`", $method, " ", $path, "`")]
                $name,
            )*
        }

        const ALL: &[ExtensionRoute] = &[$(ExtensionRoute::$name,)*];

        /// Method and path, below `/clamshell/v1`, of every call of the extension API, as `docs/api.md` writes them.
        pub const EXTENSION_ROUTES: &[(&str, &str)] = &[$(($method, $path),)*];
    };
}

routes! {
    Health "GET" "/health",
    Server "GET" "/server",
    Doctor "GET" "/doctor",
    ListSessions "GET" "/sessions",
    ShowSession "GET" "/sessions/{sessionId}",
    StopSession "POST" "/sessions/{sessionId}/stop",
    RemoveSession "DELETE" "/sessions/{sessionId}",
    RunCommand "POST" "/sessions/{sessionId}/commands",
    ListFiles "GET" "/sessions/{sessionId}/files",
    RemoveFile "DELETE" "/sessions/{sessionId}/files",
    ReadFile "GET" "/sessions/{sessionId}/files/content",
    WriteFile "PUT" "/sessions/{sessionId}/files/content",
    MakeFolder "POST" "/sessions/{sessionId}/files/directory",
    MoveFile "POST" "/sessions/{sessionId}/files/move",
    ListAllShells "GET" "/shells",
    ListShells "GET" "/sessions/{sessionId}/shells",
    ShowShell "GET" "/sessions/{sessionId}/shells/{shellId}",
    CloseShell "DELETE" "/sessions/{sessionId}/shells/{shellId}",
    ReadLog "GET" "/sessions/{sessionId}/shells/{shellId}/log",
    PaintScreen "GET" "/sessions/{sessionId}/shells/{shellId}/screen",
    Export "GET" "/sessions/{sessionId}/shells/{shellId}/export",
    RenameShell "PUT" "/sessions/{sessionId}/shells/{shellId}/title",
    CreateShare "POST" "/sessions/{sessionId}/shells/{shellId}/shares",
    ListShares "GET" "/sessions/{sessionId}/shells/{shellId}/shares",
    CurrentShare "GET" "/shares/current",
    RemoveShare "DELETE" "/shares/{shareId}",
    Events "GET" "/events",
    Attach "GET" "/sessions/{sessionId}/shells/{shellId}/attach",
    ReadRuntimeLogs "GET" "/logs",
    ShowRuntimeTerminal "GET" "/runtimes/{runtime}/terminal",
    PutRuntimeTerminal "PUT" "/runtimes/{runtime}/terminal",
    RemoveRuntimeTerminal "DELETE" "/runtimes/{runtime}/terminal",
    ListSecrets "GET" "/secrets",
    PutSecret "PUT" "/secrets/{secretName}",
    RemoveSecret "DELETE" "/secrets/{secretName}",
    ReadAudit "GET" "/audit",
    ListKeys "GET" "/keys",
    CreateKey "POST" "/keys",
    EnableKey "POST" "/keys/{accessKeyId}/enable",
    DisableKey "POST" "/keys/{accessKeyId}/disable",
    RemoveKey "DELETE" "/keys/{accessKeyId}",
    ListUsers "GET" "/users",
    CreateUser "POST" "/users",
    ShowUser "GET" "/users/{userName}",
    RemoveUser "DELETE" "/users/{userName}",
    PutUserPolicy "PUT" "/users/{userName}/policies/{policyName}",
    RemoveUserPolicy "DELETE" "/users/{userName}/policies/{policyName}",
    SetPassword "PUT" "/users/{userName}/password",
    SetConsoleRole "PUT" "/users/{userName}/console-role",
    ListRoles "GET" "/roles",
    CreateRole "POST" "/roles",
    ShowRole "GET" "/roles/{roleName}",
    RemoveRole "DELETE" "/roles/{roleName}",
    PutRolePolicy "PUT" "/roles/{roleName}/policies/{policyName}",
    RemoveRolePolicy "DELETE" "/roles/{roleName}/policies/{policyName}",
    ConsoleMe "GET" "/console/me",
    ConsoleLogin "POST" "/console/login",
    ShowConsoleLink "POST" "/console/link",
    ConsoleLogout "POST" "/console/logout",
    SetOwnPassword "PUT" "/console/password",
    ListLogins "GET" "/console/logins",
    RemoveLogin "DELETE" "/console/logins/{loginId}",
    CreateConsoleLink "POST" "/console/links",
    OidcStart "GET" "/console/oidc/start",
    OidcCallback "GET" "/console/oidc/callback",
}

/// Finds the call of a request, and the parameters of its path in order.
///
/// # Errors
/// [`RouteError`]: 404, or 405 when the path has other methods.
pub(super) fn find<'a>(
    method: &str,
    segments: &'a [String],
) -> Result<(ExtensionRoute, Vec<&'a str>), RouteError> {
    let mut allow = Vec::new();
    for (route, (its_method, template)) in ALL.iter().zip(EXTENSION_ROUTES) {
        let Some(params) = params(template, segments) else { continue };
        if *its_method == method {
            return Ok((*route, params));
        }
        allow.push(*its_method);
    }
    Err(if allow.is_empty() { RouteError::UnknownOperation } else { RouteError::MethodNotAllowed { allow } })
}

/// What stands in the places of `{...}`; `None` when the path is another one.
fn params<'a>(template: &str, segments: &'a [String]) -> Option<Vec<&'a str>> {
    let mut params = Vec::new();
    let mut segments = segments.iter();
    for part in template.split('/').skip(1) {
        let segment = segments.next()?;
        if part.starts_with('{') {
            params.push(segment.as_str());
        } else if part != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, expect: Result<(ExtensionRoute, Vec<&str>), RouteError>) {
        let segments: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
        assert_eq!(find(method, &segments), expect, "{method} {path}");
    }

    #[test]
    fn every_call_has_its_route() {
        for (route, (method, template)) in ALL.iter().zip(EXTENSION_ROUTES) {
            let names = template.split('/').filter(|part| part.starts_with('{')).collect();
            check(method, template, Ok((*route, names)));
        }
    }

    #[test]
    fn other_methods_and_other_paths() {
        let not_allowed =
            |allow: &[&'static str]| Err(RouteError::MethodNotAllowed { allow: allow.to_vec() });
        check("PUT", "/keys", not_allowed(&["GET", "POST"]));
        check("POST", "/sessions/s", not_allowed(&["GET", "DELETE"]));
        check("GET", "/keys/k/enable", not_allowed(&["POST"]));
        for path in ["/", "/nothing", "/keys/k/enable/x", "/sessions/s/shells/t/other"] {
            check("GET", path, Err(RouteError::UnknownOperation));
        }
    }
}
