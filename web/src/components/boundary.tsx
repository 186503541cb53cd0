/** Shows what went wrong in a view instead of an empty page. */
import { Component, type ComponentChildren } from "preact";

interface Props {
  /** A change of it tries the view again. */
  readonly resetOn: string;
  readonly children: ComponentChildren;
}

interface State {
  readonly error: Error | null;
}

/** Catches errors of the views in it. */
export class Boundary extends Component<Props, State> {
  override state: State = { error: null };

  static override getDerivedStateFromError(error: unknown): State {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }

  override componentDidUpdate(previous: Readonly<Props>): void {
    if (previous.resetOn !== this.props.resetOn && this.state.error !== null) this.setState({ error: null });
  }

  override render() {
    const { error } = this.state;
    if (error === null) return this.props.children;
    return (
      <div class="notice danger" role="alert">
        <h2>This view failed</h2>
        <p class="mono">{error.message}</p>
        <div class="row">
          <button type="button" onClick={() => this.setState({ error: null })}>
            Try again
          </button>
          <button type="button" onClick={() => location.reload()}>
            Reload the page
          </button>
        </div>
      </div>
    );
  }
}
