// Owns a line over the last three minutes: fixed memory, drawn when a value comes.
import { color } from "./dom.mjs";

const points = 360;

/** `format`: how a value is written, for the height of the highest one. */
export function createChart(canvas, colorName, format) {
  const values = [];
  const most = document.createElement("span");
  canvas.after(axis(most));
  function draw() {
    const scale = globalThis.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const highest = Math.max(1e-9, ...values);
    most.textContent = `most ${format(Math.max(0, ...values))}`;
    const line = color(colorName);
    context.beginPath();
    values.forEach((value, at) => {
      const x = width - ((values.length - 1 - at) / (points - 1)) * width;
      const y = height - 3 - (value / highest) * (height - 8);
      if (at === 0) context.moveTo(x, y);
      else context.lineTo(x, y);
    });
    context.strokeStyle = line;
    context.lineWidth = 1.5;
    context.stroke();
    if (values.length > 1) {
      context.lineTo(width, height);
      context.lineTo(width - ((values.length - 1) / (points - 1)) * width, height);
      context.globalAlpha = 0.12;
      context.fillStyle = line;
      context.fill();
    }
  }
  return {
    add(value) {
      values.push(Number.isFinite(value) ? value : 0);
      if (values.length > points) values.shift();
      draw();
    },
  };
}

function axis(most) {
  const made = document.createElement("p");
  made.className = "axis";
  made.append("3 min ago", most, "now");
  return made;
}
