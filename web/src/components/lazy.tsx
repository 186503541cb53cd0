/** Views whose code is fetched when they are first shown. */
import type { ComponentType, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

/** Makes a component of one that still has to be fetched; a failed fetch reaches the error boundary. */
export function lazy<P extends object>(load: () => Promise<{ readonly default: ComponentType<P> }>) {
  let loaded: ComponentType<P> | null = null;
  return function Lazy(props: P): JSX.Element {
    const [failure, setFailure] = useState<unknown>(null);
    const [, setReady] = useState(loaded !== null);
    useEffect(() => {
      let shown = true;
      if (loaded === null) {
        load().then(
          (module) => {
            loaded = module.default;
            if (shown) setReady(true);
          },
          (cause: unknown) => shown && setFailure(cause ?? new Error("The view could not be loaded")),
        );
      }
      return () => {
        shown = false;
      };
    }, []);
    if (failure !== null) throw failure;
    if (loaded === null) {
      return (
        <p class="loading" role="status">
          Loading…
        </p>
      );
    }
    const View = loaded as ComponentType<object>;
    return <View {...props} />;
  };
}
