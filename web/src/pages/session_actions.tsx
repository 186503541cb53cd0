/** What can be done to a session, each after a question that says what is lost. */
import { learn } from "../api/events";
import { removeSession, stopSession } from "../api/sessions";
import type { Session } from "../api/types";
import { ask } from "../components/dialog";
import { Badge } from "../components/parts";
import { attempt } from "../components/toast";

/** Stops a session, if the person means it. */
export async function stopAsked(session: Session): Promise<void> {
  const sure = await ask({
    title: "Stop the session?",
    text: "Its programs and terminals end. Its files stay, and the next call starts it again.",
    action: "Stop",
    danger: true,
  });
  if (!sure) return;
  await attempt(async () => learn("session", await stopSession(session)), "The session was stopped");
}

/** Removes a session, if the person types the end of its id. True when it is gone. */
export async function removeAsked(session: Session): Promise<boolean> {
  const sure = await ask({
    title: "Remove the session?",
    text: `Its programs end, and its files and recordings are removed for good: ${session.sessionId}`,
    action: "Remove",
    typed: session.sessionId.slice(-6),
    danger: true,
  });
  if (!sure) return false;
  return attempt(async () => {
    await removeSession(session);
    learn("session-removed", session);
  }, "The session was removed");
}

/** How it is: state, or why it stopped when that was not asked for. */
export function StateBadge(props: { readonly session: Session }) {
  const { state, stopReason } = props.session;
  const tone =
    state === "Active" ? "ok" : state === "Provisioning" || state === "Stopping" ? "warn" : undefined;
  const odd =
    state === "Stopped" &&
    stopReason !== undefined &&
    !["Requested", "Idle", "MaxLifetime"].includes(stopReason);
  return <Badge tone={odd ? "danger" : tone} text={odd ? `${state}: ${stopReason}` : state} />;
}
