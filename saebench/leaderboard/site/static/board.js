// Tables of the board. Cells are built as DOM nodes from data: no string from a record is ever read as HTML.
"use strict";
(() => {
  const PAGE = 100;
  const LARGE = 1e7;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const number = (value, places) =>
    (Math.abs(value) >= LARGE ? value.toExponential(2) : value.toFixed(places)).replaceAll("-", "−");
  const stacked = (above, below) => {
    const cell = element("span", "stack");
    cell.append(element("span", "value", above));
    if (below) cell.append(element("span", "interval", below));
    return cell;
  };
  const missing = (reason) => {
    const cell = element("span", "missing", "–");
    cell.title = reason;
    return cell;
  };

  // What a column shows, and what it is sorted by (null sorts last in both directions).
  const rank = {
    key: (row) => (row.place === null ? null : row.place + row.mean / 1e6),
    node: (row) => {
      if (row.control) return element("span", "missing", "control");
      if (row.place === null && row.unranked) {
        const cell = element("span", "missing", "dense");
        cell.title = row.unranked;
        return cell;
      }
      if (row.place === null) return missing("not ranked");
      const place = row.shared > row.place ? `${row.place}–${row.shared}` : `${row.place}`;
      return stacked(place, row.low === null ? "" : `[${row.low}, ${row.high}]`);
    },
  };
  const COLUMNS = {
    rank,
    done: { key: (row) => -row.done, node: (row) => element("span", "value", `${row.done} of ${row.of}`) },
    sae: {
      key: (row) => row.sae.toLowerCase(),
      node: (row) => {
        const link = element("a", "name");
        link.href = `sae/${row.page}.html`;
        link.title = row.sae;
        link.append(element("bdi", "", row.sae || "(no name)"));
        return link;
      },
    },
    arch: {
      key: (row) => row.arch.toLowerCase(),
      node: (row) => {
        const text = element("bdi", "arch", row.arch);
        text.title = row.arch;
        return text;
      },
    },
    d: { key: (row) => row.d, node: (row) => element("span", "value", String(row.d ?? "–")) },
    l0: {
      key: (row) => row.l0,
      node: (row) => (row.l0 === null ? missing("unknown") : element("span", "value", number(row.l0, 1))),
    },
    mean: {
      key: (row) => row.mean,
      node: (row) => (row.mean === null ? missing("not ranked") : element("span", "value", row.mean.toFixed(2))),
    },
  };
  const metricColumn = (metric, index) => ({
    key: (row) => (Array.isArray(row.cells[index]) ? row.cells[index][0] : null),
    node: (row) => {
      const cell = row.cells[index];
      if (!Array.isArray(cell)) return missing(cell || "not measured");
      const [value, low, high] = cell;
      const places = metric.decimals;
      const interval = low === null || high === null ? "" : `[${number(low, places)}, ${number(high, places)}]`;
      return stacked(number(value, places), interval);
    },
  });

  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const nullsLast = (sign) => (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * compare(a, b);
  };
  DataTable.type("saebench", { order: { asc: nullsLast(1), desc: nullsLast(-1) } });

  // `name` of a column says when it is shown.
  const isWanted = (name, wanted) => name === "fixed" || wanted === "all" || name.split(" ").includes(wanted);

  const columnsOf = (table, metrics, wanted) => {
    let index = 0;
    return [...table.querySelectorAll("thead th[data-col]")].map((heading) => {
      const name = heading.dataset.col;
      const metric = name === "metric" ? metrics[index] : null;
      const column = metric ? metricColumn(metric, index++) : COLUMNS[name];
      const shown = metric ? `${metric.ranked ? "ranked" : "unranked"} task:${metric.task}` : "fixed";
      const first = metric ? (heading.classList.contains("first") ? " first" : "") : "";
      return {
        data: null,
        type: "saebench",
        name: shown,
        visible: isWanted(shown, wanted),
        className: (name === "sae" ? "sae" : name === "arch" ? "text" : `num ${name}`) + first,
        cellType: name === "sae" ? "th" : "td",
        createdCell: name === "sae" ? (cell) => cell.setAttribute("scope", "row") : undefined,
        orderSequence: metric && metric.better === true ? ["desc", "asc"] : ["asc", "desc"],
        render: (data, type, row) => (type === "display" ? column.node(row) : column.key(row)),
      };
    });
  };

  const makeTable = (table, payload, wanted) => {
    const rows = payload[table.dataset.kind];
    const paging = rows.length > PAGE;
    const made = new DataTable(table, {
      data: rows,
      columns: columnsOf(table, payload.metrics, wanted),
      titleRow: 1,
      order: [[0, "asc"]],
      autoWidth: false,
      deferRender: true,
      paging,
      pageLength: PAGE,
      layout: { topStart: null, topEnd: null, bottomStart: paging ? "info" : null, bottomEnd: paging ? "paging" : null },
      language: { zeroRecords: "No row fits the filter.", emptyTable: "No rows." },
      createdRow: (node, row) => node.classList.toggle("control", row.control),
    });
    // The pager stays in sight while the table scrolls sideways.
    const scroll = table.closest(".scroll");
    for (const bar of scroll.querySelectorAll(".dt-layout-row:not(.dt-layout-table)")) scroll.after(bar);
    return made;
  };

  for (const section of document.querySelectorAll("section.stratum")) {
    const payload = JSON.parse(section.querySelector("script.payload").textContent);
    const input = (name) => section.querySelector(`.tools .${name}`);
    const wanted = input("columns").value;
    const tables = [...section.querySelectorAll("table.grid")].map((table) => makeTable(table, payload, wanted));
    const update = () => {
      const words = input("search").value.trim().toLowerCase();
      const arch = input("arch").value;
      const controls = input("controls")?.checked ?? true;
      const fits = (row) =>
        (!row.control || controls) &&
        (!arch || row.arch === arch) &&
        (!words || row.sae.toLowerCase().includes(words) || row.arch.toLowerCase().includes(words));
      for (const table of tables) table.search.fixed("tools", (text, row) => fits(row)).draw();
    };
    const choose = () => {
      const wanted = input("columns").value;
      for (const table of tables) {
        table.columns().every(function () {
          this.visible(isWanted(this.name(), wanted), false);
        });
      }
    };
    input("search").addEventListener("input", update);
    for (const name of ["arch", "controls"]) input(name)?.addEventListener("change", update);
    input("columns").addEventListener("change", choose);
  }
})();
