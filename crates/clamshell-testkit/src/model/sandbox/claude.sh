#!/bin/sh
# Claude Code against the scripted model beside this file, without a question before the first prompt.
set -eu
here=$(dirname "$(readlink -f "$0")")

node "$here/relay.mjs" </dev/null >/dev/null 2>&1 &
node "$here/relay.mjs" --wait

export ANTHROPIC_BASE_URL=http://127.0.0.1:8089
export ANTHROPIC_API_KEY=sk-scripted-model-0123456789
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 DISABLE_AUTOUPDATER=1 IS_SANDBOX=1

if [ ! -e "$HOME/.claude.json" ]; then
    mkdir -p "$HOME/.claude"
    approved=$(printf %s "$ANTHROPIC_API_KEY" | tail -c 20)
    cat >"$HOME/.claude.json" <<JSON
{"hasCompletedOnboarding": true, "theme": "dark", "customApiKeyResponses": {"approved": ["$approved"], "rejected": []},
 "projects": {"$PWD": {"hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true}}}
JSON
    echo '{"skipDangerousModePermissionPrompt": true}' >"$HOME/.claude/settings.json"
fi
exec "$here/claude-code/node_modules/.bin/claude" "$@"
