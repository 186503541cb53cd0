/** The keys of the terminal view. */
import { Dialog } from "../components/dialog";
import { SHORTCUTS } from "./shortcuts";

export function Help(props: { readonly onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={props.onClose}>
      <p class="muted">All other keys go to the program in the terminal.</p>
      <table class="term-keys-table">
        <thead class="visually-hidden">
          <tr>
            <th scope="col">Key</th>
            <th scope="col">What it does</th>
          </tr>
        </thead>
        <tbody>
          {SHORTCUTS.map((shortcut) => (
            <tr key={shortcut.keys}>
              <th scope="row">
                <kbd>{shortcut.keys}</kbd>
              </th>
              <td>{shortcut.says}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Dialog>
  );
}
