// Draws the charts of a page with uPlot: one <div class="chart"> for each, of the numbers that data-source names.
"use strict";

const LINES = {
    published: ["Published", "--line-1"],
    acked: ["Signed", "--line-2"],
    failed: ["Failed", "--line-3"],
    depth: ["Waiting", "--line-1"],
    p50: ["Median", "--line-2"],
    p95: ["95 %", "--line-4"],
};
const HEIGHT = 140;
const FRESH_MS = 10000;

// What a colour of the style sheet is just now, light or dark: a canvas takes no names.
function colour(name) {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
}

function two(number) {
    return String(number).padStart(2, "0");
}

function time(at, days) {
    const moment = new Date(at * 1e3);
    const day = `${two(moment.getUTCMonth() + 1)}-${two(moment.getUTCDate())}`;
    const clock = `${two(moment.getUTCHours())}:${two(moment.getUTCMinutes())}`;
    if (days) return `${day} ${clock}`;
    return clock === "00:00" ? day : clock;
}

function short(value, unit) {
    if (value == null) return "–";
    if (unit === "s") {
        if (value >= 3600) return `${+(value / 3600).toFixed(1)} h`;
        if (value >= 60) return `${+(value / 60).toFixed(1)} min`;
        return value >= 1 || value === 0 ? `${+value.toFixed(1)} s` : `${+(value * 1000).toFixed(0)} ms`;
    }
    if (value >= 1e6) return `${+(value / 1e6).toFixed(1)} M`;
    if (value >= 1e4) return `${+(value / 1e3).toFixed(1)} k`;
    return `${+value.toFixed(2)}`;
}

function draw(place, numbers) {
    const names = place.dataset.lines.split(" ");
    const unit = place.dataset.unit ?? "";
    const data = [numbers.at, ...names.map((name) => numbers[name])];
    const axis = {
        stroke: colour("--muted"),
        grid: { stroke: colour("--rule"), width: 1 },
        ticks: { stroke: colour("--rule"), width: 1, size: 4 },
        font: "11px system-ui, sans-serif",
    };
    const options = {
        width: place.clientWidth,
        height: HEIGHT,
        tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
        cursor: { y: false, sync: { key: "restante" } },
        legend: { live: true },
        scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, unit === "s" ? 0.01 : 1) * 1.08] } },
        axes: [
            { ...axis, space: 60, size: 28, values: (_, ticks) => ticks.map((tick) => time(tick, false)) },
            { ...axis, size: 54, values: (_, ticks) => ticks.map((tick) => short(tick, unit)) },
        ],
        series: [
            { label: "UTC", value: (_, at) => (at == null ? "–" : time(at, true)) },
            ...names.map((name, index) => ({
                label: LINES[name][0],
                stroke: colour(LINES[name][1]),
                fill: index === 0 ? colour("--fill") : undefined,
                width: 1.5,
                // One signature in an hour is a point without a line.
                points: { show: unit === "s", size: 4 },
                spanGaps: true,
                value: (_, value) => short(value, unit),
            })),
        ],
    };
    return new uPlot(options, data, place);
}

function follow(charts) {
    const places = [...charts.querySelectorAll(".chart")];
    let drawn = [];
    let numbers;
    let asked = 0;

    function again() {
        for (const chart of drawn) chart.destroy();
        drawn = places.map((place) => draw(place, numbers));
    }

    async function ask() {
        asked = Date.now();
        const answer = await fetch(charts.dataset.source, { headers: { "HX-Request": "true" } });
        if (!answer.ok) return;
        numbers = await answer.json();
        if (drawn.length === 0) {
            again();
            return;
        }
        drawn.forEach((chart, index) => {
            const names = places[index].dataset.lines.split(" ");
            chart.setData([numbers.at, ...names.map((name) => numbers[name])]);
        });
    }

    ask();
    document.body.addEventListener("news", () => Date.now() - asked > FRESH_MS && ask());
    document.body.addEventListener("theme", () => numbers && again());
    new ResizeObserver(() => {
        drawn.forEach((chart, index) => {
            const width = places[index].clientWidth;
            if (width !== chart.width) chart.setSize({ width, height: HEIGHT });
        });
    }).observe(charts);
}

document.querySelectorAll(".charts").forEach(follow);
