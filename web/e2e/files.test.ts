/** Files of a workspace by the page: what a person puts there is what programs find, and the other way round. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { LACKING } from "./lacking";
import { useStage } from "./stage";

describe.skipIf(LACKING)("files", () => {
  const stage = useStage();

  test("are uploaded, found by programs, renamed, downloaded and deleted", async () => {
    const { page, terminal } = await stage.open();
    await page.goto(`${stage.server.origin}/console/files`);
    await page.locator("tbody th a").first().click();
    await page.getByText("This folder is empty").waitFor();
    const mine = { name: "mine.txt", mimeType: "text/plain", buffer: Buffer.from("by a person\n") };
    await page.getByLabel("Files to upload").setInputFiles(mine);
    await page.getByRole("row", { name: "mine.txt" }).waitFor();
    await page.getByText("12 B, done").waitFor();

    await page.getByRole("button", { name: "New folder" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill("inner");
    await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
    await page.getByRole("row", { name: "mine.txt" }).getByRole("button", { name: "Rename" }).click();
    await page.getByRole("dialog").getByLabel("New name").fill("other.txt");
    await page.getByRole("dialog").getByRole("button", { name: "Rename" }).click();
    const row = page.getByRole("row", { name: "other.txt" });
    await row.waitFor();

    await page.goto(
      `${stage.server.origin}/console/terminal?session=${terminal.session}&shell=${terminal.shell}`,
    );
    await terminal.is("live");
    await terminal.line("clear; cd /mnt/workspace; cat other.txt; ls; echo by a program >other.txt");
    await terminal.shows(/by a person\ninner\s+other\.txt/);

    await page.goto(`${stage.server.origin}/console/files`);
    await page.locator("tbody th a").first().click();
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      row.getByRole("link", { name: "Download" }).click(),
    ]);
    expect(download.suggestedFilename()).toBe("other.txt");
    expect(readFileSync(await download.path(), "utf8")).toBe("by a program\n");
    await row.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await row.waitFor({ state: "detached" });
    await page.getByRole("link", { name: "inner" }).click();
    await page.getByText("This folder is empty").waitFor();
    await page.getByRole("link", { name: ".." }).click();
    await page.getByRole("row", { name: "inner" }).waitFor();
  });
});
